"""Patterns of many shapes, found by a path that they match: as many steps as the path has segments, or few more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from meshproxy.policy.match import ANY_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.policy.match import Segments

T = TypeVar("T")


class _Node(Generic[T]):
    """One place in the tree."""

    __slots__ = ("any_segment", "below", "branches", "here")

    def __init__(self) -> None:
        self.branches: dict[str, _Node[T]] = _NO_BRANCHES  # by literal segment
        self.any_segment: _Node[T] | None = None  # behind `*`; apart, as a request path may hold a segment `*` too
        self.here: T | None = None  # of the pattern that ends here
        self.below: T | None = None  # of the pattern that grants this and everything below

    def branch(self, segment: str) -> _Node[T]:
        if segment != ANY_SEGMENT:
            if self.branches is _NO_BRANCHES:
                self.branches = {}
            return self.branches.setdefault(segment, _Node())
        if self.any_segment is None:
            self.any_segment = _Node()
        return self.any_segment


# Of all places at which nothing goes on, which are most of them; never added to.
_NO_BRANCHES: Final[dict[str, _Node[Any]]] = {}


class PatternTree(Generic[T]):
    """Keeps one thing for each pattern, in a tree over segments. It may hold patterns of any number and shape.

    Memory is in proportion to the patterns. A look into the tree goes never deeper than the deepest pattern, so a path
    of thousands of segments costs what a short one does.
    """

    __slots__ = ("_depth", "_patterns", "_root")

    def __init__(self, things: Mapping[Segments, T]) -> None:
        self._root: _Node[T] = _Node()
        self._patterns = len(things)
        self._depth = max((len(pattern.fixed) for pattern in things), default=0)
        for pattern, thing in things.items():
            node = self._root
            for segment in pattern.fixed:
                node = node.branch(segment)
            if pattern.open_ended:
                node.below = thing
            else:
                node.here = thing

    def __repr__(self) -> str:
        return f"<PatternTree of {self._patterns} patterns, {self._depth} deep>"

    def find(self, path: str) -> list[T]:
        """Return what is kept for the patterns that match `path`, in no order: the same as asking `Segments.match`.

        `path` is `/a/b`, or empty for no segment at all.
        """
        found: list[T] = []
        # Beyond the deepest pattern the rest may stay in one piece: only whether there is any matters.
        self._walk(path.split("/", self._depth + 1), found)
        return found

    def _walk(self, segments: list[str], found: list[T]) -> None:
        """Follow the branches; the first segment is what stands before the first slash, and is none.

        Where both a literal and `*` go on, one waits its turn. A place is reached by one way only: none is seen twice.
        """
        waiting: list[tuple[_Node[T], int]] | None = None
        place, at, end = self._root, 1, len(segments)
        while True:
            below = place.below
            if below is not None:
                found.append(below)
            if at == end:
                if place.here is not None:
                    found.append(place.here)
            else:
                segment, any_segment = segments[at], place.any_segment
                following = place.branches.get(segment)
                at += 1
                if any_segment is not None and segment:  # `*` is never empty: /a/ is not of /a/*
                    if following is None:
                        place = any_segment
                        continue
                    if waiting is None:
                        waiting = []
                    waiting.append((any_segment, at))
                if following is not None:
                    place = following
                    continue
            if not waiting:
                return
            place, at = waiting.pop()
