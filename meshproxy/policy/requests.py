"""The rules that grant some callers, made quick to ask about one request: by path, then by method, then by time."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Optional

from meshproxy.policy.patterns import Patterns, only_literal, patterns_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from meshproxy.policy.document import Rule
    from meshproxy.policy.match import Segments


class Terms:
    """Rules that differ in `expires` only: which is the first in file order that still grants.

    Only a rule that outlives all before it can ever be the first, so only those are kept: their ends rise, and the
    one without end is the last.
    """

    __slots__ = ("_ends", "_rules")

    def __init__(self) -> None:
        self._ends: list[datetime] = []
        self._rules: list[Rule] = []

    def __repr__(self) -> str:
        return f"<Terms of rules {[rule.ordinal for rule in self._rules]}>"

    @property
    def always(self) -> Rule | None:
        """The first rule, where it never expires."""
        return None if self._ends else self._rules[0]

    def add(self, rule: Rule) -> None:
        """Add a rule, which comes behind all before in file order (or is the same again)."""
        if len(self._rules) > len(self._ends):
            return  # behind a rule that never expires
        if rule.expires is None:
            self._rules.append(rule)
        elif not self._ends or rule.expires > self._ends[-1]:
            self._ends.append(rule.expires)
            self._rules.append(rule)

    def first(self, now: datetime) -> Rule | None:
        """Return the first rule that grants at `now` (aware), or None: all have expired."""
        ended = bisect_right(self._ends, now)  # from `expires` itself on it grants no more
        return self._rules[ended] if ended < len(self._rules) else None


# What is granted on one path, with one set of methods (None: any): the first rule if it never expires, or else the
# terms to ask; and the same for the next set. By sets, of which there are few: one entry for each method would make a
# rule of many methods and many paths weigh their product. A chain, as mostly there is but one: one object then.
Granted = tuple[frozenset[str] | None, "Rule | None", Terms, Optional["Granted"]]


class RequestIndex:
    """What one caller pattern is granted: the rules that name it, and, found by path, what those grant.

    Mostly there is but one path, or none. That is looked at here: among ten thousand rules each object on the way costs
    a miss of the CPU's cache, and that is what makes a long list slower than a short one.
    """

    __slots__ = ("_any_path", "_granted", "_path", "_paths", "rules", "shared")

    def __init__(
        self,
        rules: Sequence[int],
        any_path: Granted | None,
        paths: Mapping[Segments, Granted],
        shared: Sequence[RequestIndex],
    ) -> None:
        self.rules = rules  # by index, in file order
        self._any_path = any_path
        self._path: str | None = None
        self._granted: Granted | None = None
        if (only := only_literal(paths)) is not None:
            self._path, self._granted = only
        self._paths: Patterns[Granted] | None = patterns_of(paths) if paths and self._path is None else None
        self.shared = shared  # with other caller patterns

    def __repr__(self) -> str:
        return f"<RequestIndex of {len(self.rules)} rules: {self._path or self._paths}, and {len(self.shared)} shared>"

    def find(self, path: str) -> Sequence[Granted]:
        """Return what is granted by each pattern that matches `path` (judged, without query), in no order.

        A target that is no path (`*` of OPTIONS) is granted by rules without `paths` only.
        """
        if self._granted is not None:
            found = [self._granted] if path == self._path else []
        else:
            found = [] if self._paths is None or not path else self._paths.find(path)
        if self._any_path is not None:
            found.append(self._any_path)
        for index in self.shared:
            found += index.find(path)
        return found


class RequestRules:
    """Gathers rules that all grant the same callers, for a `RequestIndex`."""

    __slots__ = ("_any_path", "_index", "_paths", "_rules", "shared")

    def __init__(self) -> None:
        self.shared: list[RequestRules] = []  # with other callers
        self._rules: list[int] = []
        self._any_path: dict[frozenset[str] | None, Terms] = {}
        self._paths: dict[Segments, dict[frozenset[str] | None, Terms]] = {}
        self._index: RequestIndex | None = None

    def __repr__(self) -> str:
        return f"<RequestRules on {len(self._paths)} paths>"

    def name(self, number: int) -> None:
        """Remember that the rule of index `number`, in file order, names the callers."""
        self._rules.append(number)

    def add(self, rule: Rule, methods: frozenset[str] | None) -> None:
        """Add what a rule, in file order, grants. `methods` is its own, one set for all rules of the same."""
        places = (
            [self._any_path]
            if rule.paths is None
            else [self._paths.setdefault(pattern.segments, {}) for pattern in rule.paths]
        )
        for granted in places:
            granted.setdefault(methods, Terms()).add(rule)

    def index(self) -> RequestIndex:
        """Return the index of all that was added."""
        if self._index is None:
            self._index = RequestIndex(
                tuple(self._rules),
                _chained(self._any_path),
                {pattern: chain for pattern, granted in self._paths.items() if (chain := _chained(granted))},
                tuple(rules.index() for rules in self.shared),
            )
        return self._index


def _chained(granted: Mapping[frozenset[str] | None, Terms]) -> Granted | None:
    chain: Granted | None = None
    for methods, terms in granted.items():
        chain = (methods, terms.always, terms, chain)
    return chain
