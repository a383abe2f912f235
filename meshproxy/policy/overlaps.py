"""What is kept for patterns, found by another pattern that shares a path with them, or by a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from meshproxy.policy.match import ANY_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from meshproxy.policy.match import Segments

T = TypeVar("T")


class _Node(Generic[T]):
    """One place in the tree: what ends here, what goes on for ever from here, and where it branches."""

    __slots__ = ("below", "branches", "here")

    def __init__(self) -> None:
        self.branches: dict[str, _Node[T]] = {}  # `*` among them: a pattern's segment is never literally that
        self.here: T | None = None
        self.below: T | None = None


class OverlapTree(Generic[T]):
    """One thing for each pattern; a look costs what it finds and the branches on the way, not all that is kept."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._count = 0

    def __repr__(self) -> str:
        return f"<OverlapTree of {self._count} patterns>"

    def setdefault(self, pattern: Segments, make: Callable[[], T]) -> T:
        """Return what is kept for `pattern`, made now if there was nothing."""
        node = self._root
        for segment in pattern.fixed:
            node = node.branches.setdefault(segment, _Node())
        kept = node.below if pattern.open_ended else node.here
        if kept is None:
            kept = make()
            self._count += 1
            if pattern.open_ended:
                node.below = kept
            else:
                node.here = kept
        return kept

    def overlapping(self, pattern: Segments) -> Iterator[T]:
        """Yield what is kept for the patterns that match some path which `pattern` matches too, in no order."""
        waiting = [(self._root, 0)]
        while waiting:
            node, at = waiting.pop()
            if node.below is not None:  # reached by agreeing with all of its fixed part
                yield node.below
            beyond = at >= len(pattern.fixed)
            if beyond and node.here is not None and (at == len(pattern.fixed) or pattern.open_ended):
                yield node.here
            if beyond and not pattern.open_ended:
                continue
            waiting.extend((following, at + 1) for following in _agreeing(node, None if beyond else pattern.fixed[at]))

    def matching(self, path: Sequence[str]) -> Iterator[T]:
        """Yield what is kept for the patterns that match one path, given by its segments, in no order."""
        waiting = [(self._root, 0)]
        while waiting:
            node, at = waiting.pop()
            if node.below is not None:
                yield node.below
            if at == len(path):
                if node.here is not None:
                    yield node.here
                continue
            waiting.extend((following, at + 1) for following in _agreeing(node, path[at]))


def _agreeing(node: _Node[T], wanted: str | None) -> Iterator[_Node[T]]:
    """Where a pattern may go on whose next segment is `wanted` (None: anything, even the empty one)."""
    if wanted is None:
        yield from node.branches.values()
    elif wanted == ANY_SEGMENT:
        yield from (following for segment, following in node.branches.items() if segment)
    else:
        if wanted in node.branches:
            yield node.branches[wanted]
        if wanted and ANY_SEGMENT in node.branches:
            yield node.branches[ANY_SEGMENT]
