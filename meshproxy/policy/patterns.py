"""What is kept for patterns, found by a path that they match: ten thousand patterns are looked up like ten.

Patterns of one shape (as long, with `*` at the same places) differ in their literal segments only, so those are the key
of a dict. An allow-list has a few shapes, and each costs one look; for a list of many there is `meshproxy.policy.tree`,
which takes a step per segment.

What is looked at lies flat, and a pattern that is alone has no dict: among ten thousand rules each object on the way
costs a miss of the CPU's cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from meshproxy.policy.match import ANY_SEGMENT, spelt
from meshproxy.policy.tree import PatternTree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshproxy.policy.match import Segments

T = TypeVar("T")

# To ask one more shape costs about as much as one more step in the tree, which takes a few.
_MOST_SHAPES: Final = 8  # among those that one path may have
_DEEPEST: Final = 16  # segments of a pattern that is looked up by its shape: there is a row for each length


class Patterns(ABC, Generic[T]):
    """Things kept one for each pattern, to be found by path."""

    __slots__ = ()

    @abstractmethod
    def find(self, path: str) -> list[T]:
        """Return what is kept for the patterns that match `path`, in no order: the same as asking `Segments.match`.

        `path` is `/a/b`, or empty for no segment at all. What begins with anything but a slash is matched by none. The
        list is the caller's own.
        """


def patterns_of(things: Mapping[Segments, T]) -> Patterns[T]:
    """Return `things` in the form that is found quickest."""
    literal = {path: thing for pattern, thing in things.items() if (path := _literal(pattern)) is not None}
    wild = {pattern: thing for pattern, thing in things.items() if _literal(pattern) is None}
    if not wild:
        return _Literals(literal)
    if len(wild) == 1 and not literal:
        return _OnePattern(*next(iter(wild.items())))
    if (rows := _rows(wild)) is not None:
        return _Shapes(literal, rows)
    return _Tree(literal, wild)


def only_literal(things: Mapping[Segments, T]) -> tuple[str, T] | None:
    """Return the path of the only pattern, and what is kept for it, if there is but one, and without wildcard."""
    if len(things) != 1:
        return None
    [(pattern, thing)] = things.items()
    path = _literal(pattern)
    return None if path is None else (path, thing)


def _literal(pattern: Segments) -> str | None:
    if pattern.open_ended or ANY_SEGMENT in pattern.fixed:
        return None
    return spelt(pattern.fixed)


class _Literals(Patterns[T]):
    __slots__ = ("_literal",)

    def __init__(self, literal: dict[str, T]) -> None:
        self._literal = literal

    def __repr__(self) -> str:
        return f"<Patterns: {len(self._literal)} literals>"

    def find(self, path: str) -> list[T]:
        thing = self._literal.get(path)
        return [] if thing is None else [thing]


class _Shape:
    """Where patterns have their `*`. Kept once for all that share it, so that it stays in the CPU's cache."""

    __slots__ = ("key", "length", "longest", "wild")

    def __init__(self, wild: tuple[bool, ...], *, open_ended: bool) -> None:
        self.length = 1 + len(wild)  # of what a split gives: nothing stands before the first slash
        self.longest = self.length + open_ended  # the rest may stay in one piece: only whether there is any matters
        self.wild = tuple(at for at, is_wild in enumerate(wild, 1) if is_wild)
        literal = [at for at, is_wild in enumerate(wild, 1) if not is_wild]
        # Without literal segments, the key is the nothing before the first slash.
        self.key: Callable[[Any], Any] = itemgetter(*(literal or [0]))


_shape: Final = lru_cache(maxsize=1024)(_Shape)


def _shape_and_key(pattern: Segments) -> tuple[_Shape, Any]:
    shape = _shape(tuple(segment == ANY_SEGMENT for segment in pattern.fixed), open_ended=pattern.open_ended)
    return shape, shape.key(("", *pattern.fixed))


class _OnePattern(Patterns[T]):
    __slots__ = ("_key", "_shape", "_thing")

    def __init__(self, pattern: Segments, thing: T) -> None:
        self._shape, self._key = _shape_and_key(pattern)
        self._thing = thing

    def __repr__(self) -> str:
        return f"<Patterns: one of {self._shape.length - 1} segments>"

    def find(self, path: str) -> list[T]:
        shape = self._shape
        segments = path.split("/", shape.length)
        if not shape.length <= len(segments) <= shape.longest or shape.key(segments) != self._key or segments[0]:
            return []
        for at in shape.wild:
            if not segments[at]:  # `*` is never empty: /a/ is not of /a/*
                return []
        return [self._thing]


# The shapes that a path of so many segments may have: how to get the key, where `*` stands, what is kept by key.
_Row = tuple[tuple["Callable[[Any], Any]", tuple[int, ...], dict[Any, T]], ...]


def _rows(wild: Mapping[Segments, T]) -> list[_Row[T]] | None:
    """Return a row for each length that a split path may have, or None: there are too many shapes, or too long ones."""
    tables: dict[_Shape, dict[Any, T]] = {}
    deepest = max(len(pattern.fixed) for pattern in wild)
    if deepest > _DEEPEST:
        return None
    for pattern, thing in wild.items():
        shape, key = _shape_and_key(pattern)
        tables.setdefault(shape, {})[key] = thing
        if len(tables) > _MOST_SHAPES * (deepest + 2):
            return None
    rows: list[_Row[T]] = [
        tuple(
            (shape.key, shape.wild, table)
            for shape, table in tables.items()
            if length == shape.length or (length > shape.length and shape.longest > shape.length)
        )
        for length in range(deepest + 3)
    ]
    return rows if max(map(len, rows)) <= _MOST_SHAPES else None


class _Shapes(Patterns[T]):
    """Literal patterns in a dict, all others in one for each shape."""

    __slots__ = ("_literal", "_rows", "_splits")

    def __init__(self, literal: dict[str, T], rows: list[_Row[T]]) -> None:
        self._literal = literal
        self._rows = rows
        self._splits = len(rows) - 2  # into pieces for which there is a row

    def __repr__(self) -> str:
        kept = {id(table): len(table) for row in self._rows for _, _, table in row}
        return f"<Patterns: {len(self._literal)} literals and {sum(kept.values())} patterns of {len(kept)} shapes>"

    def find(self, path: str) -> list[T]:
        thing = self._literal.get(path)
        found = [] if thing is None else [thing]
        segments = path.split("/", self._splits)
        if segments[0]:
            return found
        for key, wild, table in self._rows[len(segments)]:
            thing = table.get(key(segments))
            if thing is not None:
                for at in wild:
                    if not segments[at]:
                        break
                else:
                    found.append(thing)
        return found


class _Tree(Patterns[T]):
    __slots__ = ("_literal", "_tree")

    def __init__(self, literal: dict[str, T], wild: Mapping[Segments, T]) -> None:
        self._literal = literal
        self._tree = PatternTree(wild)

    def __repr__(self) -> str:
        return f"<Patterns: {len(self._literal)} literals and {self._tree!r}>"

    def find(self, path: str) -> list[T]:
        found = self._tree.find(path) if path[:1] in {"/", ""} else []
        thing = self._literal.get(path)
        if thing is not None:
            found.append(thing)
        return found
