"""The rules that grant some callers, made quick to ask about one request: by path, then by method, then by time."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from meshproxy.policy.tree import PatternTree

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
        self._rules: list[int] = []

    def __repr__(self) -> str:
        return f"<Terms of rules {self._rules}>"

    @property
    def always(self) -> int | None:
        """The index of the first rule, where it never expires."""
        return None if self._ends else self._rules[0]

    def add(self, rule: int, expires: datetime | None) -> None:
        """Add a rule by its index, which is greater than all before (or the same again)."""
        if len(self._rules) > len(self._ends):
            return  # behind a rule that never expires
        if expires is None:
            self._rules.append(rule)
        elif not self._ends or expires > self._ends[-1]:
            self._ends.append(expires)
            self._rules.append(rule)

    def first(self, now: datetime) -> int | None:
        """Return the index of the first rule that grants at `now` (aware), or None: all have expired."""
        ended = bisect_right(self._ends, now)  # from `expires` itself on it grants no more
        return self._rules[ended] if ended < len(self._rules) else None


# What is granted on one path: for each set of methods (None: any) the first rule if it never expires, or else the terms
# to ask. By sets, of which there are few: one entry for each method would make a rule of many methods and many paths
# weigh their product. Flat, because among ten thousand rules each object on the way costs a miss of the CPU's cache.
Granted = tuple[tuple[frozenset[str] | None, int | None, Terms], ...]


class RequestIndex:
    """Finds, among rules that all grant the same callers, those whose `paths` match.

    Mostly there is but one path, or none; each object less on the way to it is a miss less of the CPU's cache.
    """

    __slots__ = ("_any_path", "_granted", "_literals", "_path", "_tree")

    def __init__(self, any_path: Granted, paths: PatternTree[Granted]) -> None:
        self._any_path = any_path
        self._tree = paths if paths.has_wildcards else None
        self._literals = paths.literals
        self._path: str | None = None  # the only literal one, if there is but one
        self._granted: Granted = ()
        if len(self._literals) == 1:
            [(self._path, self._granted)] = self._literals.items()

    def __repr__(self) -> str:
        return f"<RequestIndex of {len(self._literals)} literals, {self._tree!r}>"

    def find(self, path: str) -> Sequence[Granted]:
        """Return what is granted by each pattern that matches `path` (judged, without query), in no order.

        A target that is no path (`*` of OPTIONS) is granted by rules without `paths` only.
        """
        if self._tree is not None:
            found = self._tree.find(path) if path[:1] == "/" else []
        elif self._path is not None:
            found = [self._granted] if path == self._path else []
        else:
            literal = self._literals.get(path)
            found = [] if literal is None else [literal]
        if self._any_path:
            found.append(self._any_path)
        return found


class RequestRules:
    """Gathers rules that all grant the same callers, for a `RequestIndex`."""

    __slots__ = ("_any_path", "_paths")

    def __init__(self) -> None:
        self._any_path: dict[frozenset[str] | None, Terms] = {}
        self._paths: dict[Segments, dict[frozenset[str] | None, Terms]] = {}

    def __repr__(self) -> str:
        return f"<RequestRules on {len(self._paths)} paths>"

    def add(self, number: int, rule: Rule, methods: frozenset[str] | None) -> None:
        """Add the rule of index `number`, in file order. `methods` is its own, one set for all rules of the same."""
        places = (
            [self._any_path]
            if rule.paths is None
            else [self._paths.setdefault(pattern.segments, {}) for pattern in rule.paths]
        )
        for granted in places:
            granted.setdefault(methods, Terms()).add(number, rule.expires)

    def index(self) -> RequestIndex:
        """Return the index of all that was added."""
        paths: PatternTree[Granted] = PatternTree()
        for pattern, granted in self._paths.items():
            paths.setdefault(pattern, _flat(granted))
        return RequestIndex(_flat(self._any_path), paths)


def _flat(granted: Mapping[frozenset[str] | None, Terms]) -> Granted:
    return tuple((methods, terms.always, terms) for methods, terms in granted.items())
