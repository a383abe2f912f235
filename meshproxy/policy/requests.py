"""The rules that grant some callers, made quick to ask about one request: by path, then by method, then by time."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from meshproxy.policy.tree import PatternTree

if TYPE_CHECKING:
    from datetime import datetime

    from meshproxy.policy.document import Rule


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
        ended = bisect_right(self._ends, now) if self._ends else 0  # from `expires` itself on it grants no more
        return self._rules[ended] if ended < len(self._rules) else None


ByMethods = dict[frozenset[str] | None, Terms]
"""What is granted on one path: rules by their `methods` (None: any). By sets, of which there are few: one entry for
each method would make a rule of many methods and many paths weigh their product."""


class RequestIndex:
    """Finds, among rules that all grant the same callers, those whose `paths` match."""

    __slots__ = ("_any_path", "_paths")

    def __init__(self) -> None:
        self._any_path: ByMethods = {}
        self._paths: PatternTree[ByMethods] = PatternTree()

    def __repr__(self) -> str:
        return f"<RequestIndex of {self._paths!r}>"

    def add(self, number: int, rule: Rule, methods: frozenset[str] | None) -> None:
        """Add the rule of index `number`, in file order. `methods` is its own, one set for all rules of the same."""
        places = (
            [self._any_path]
            if rule.paths is None
            else [self._paths.setdefault(pattern.segments, dict) for pattern in rule.paths]
        )
        for granted in places:
            if (terms := granted.get(methods)) is None:
                terms = granted[methods] = Terms()
            terms.add(number, rule.expires)

    def find(self, path: str) -> list[ByMethods]:
        """Return what is granted by each pattern that matches `path` (judged, without query), in no order.

        A target that is no path (`*` of OPTIONS) is granted by rules without `paths` only.
        """
        found = self._paths.find(path) if path.startswith("/") else []
        if self._any_path:
            found.append(self._any_path)
        return found
