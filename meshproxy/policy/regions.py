"""What patterns grant together: whether some cover another, and if not, what they leave out. Exact, without sampling.

A pattern is a set of paths (of identities, or of requests) and there are infinitely many, but a list of patterns tells
only finitely many kinds apart: at each segment those it names, any other one, and the empty one at the end of a path.
Walking through these kinds, all patterns at once, is a proof.

How many kinds there are can grow exponentially in patterns that mix literals and `*` at the same places. Whoever writes
them means few; beyond `MOST_STEPS` the question is given up with `TooIntricate`, and never answered by guessing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from meshproxy.policy.match import ANY_SEGMENT, Segments

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

MOST_STEPS: Final = 1_000_000  # about a second
_Alive = tuple[tuple[int, Segments], ...]  # patterns, with their numbers, that go along with a path so far
_OTHER: Final = "other"  # what a segment is called that no pattern names, if none is called so


class TooIntricate(Exception):
    """So many patterns overlap in so many ways that the proof would take too long."""


@dataclass(frozen=True, slots=True)
class Region:
    """Paths of one kind: `example` is one of them, `among` the numbers of all patterns that it matches."""

    example: tuple[str, ...]
    among: frozenset[int]


class Steps:
    """How many steps may still be taken, one for each pattern at each segment; shared by all parts of one question."""

    def __init__(self, most: int = MOST_STEPS, *, of: Steps | None = None) -> None:
        self._left = most
        self._of = of

    def __repr__(self) -> str:
        return f"<Steps left={self._left}>"

    def take(self, steps: int) -> None:
        """Take so many; raises TooIntricate when there are not enough left."""
        self._left -= steps
        if self._left < 0:
            raise TooIntricate
        if self._of is not None:
            self._of.take(steps)

    def at_most(self, most: int) -> Steps:
        """Return a part of these for one question: no more than `most`, and no more than are left of all."""
        return Steps(most, of=self)


def regions(within: Segments, patterns: Sequence[Segments], *, empty_end: bool, steps: Steps) -> Iterator[Region]:
    """Yield the kinds of paths within a pattern that `patterns` tell apart, one for each set of those that match.

    A path has one segment at least. `empty_end`: whether it may end in an empty one, as `/docs/` does and no identity
    can. Raises TooIntricate.
    """
    steps.take(len(patterns))
    wanted = [number for number, pattern in enumerate(patterns) if overlap(within, pattern)]
    seen: set[frozenset[int]] = set()
    for region in _Walk(within, [(number, patterns[number]) for number in wanted], empty_end, steps).run():
        if region.among not in seen:
            seen.add(region.among)
            yield region


def uncovered(
    within: Segments, patterns: Sequence[Segments], *, empty_end: bool, steps: Steps | None = None
) -> tuple[str, ...] | None:
    """Return a path within a pattern that none of `patterns` matches, or None: together they cover it.

    Raises TooIntricate.
    """
    if any(covers(pattern, within) for pattern in patterns):
        return None
    found = regions(within, patterns, empty_end=empty_end, steps=steps or Steps())
    return next((region.example for region in found if not region.among), None)


def covers(wide: Segments, narrow: Segments) -> bool:
    """Whether one pattern alone matches all that another does."""
    if len(wide.fixed) > len(narrow.fixed) or (narrow.open_ended and not wide.open_ended):
        return False
    if len(wide.fixed) < len(narrow.fixed) and not wide.open_ended:
        return False
    return all(
        mine in (ANY_SEGMENT, theirs) and not (mine == ANY_SEGMENT and theirs == "")
        for mine, theirs in zip(wide.fixed, narrow.fixed, strict=False)
    )


def overlap(one: Segments, other: Segments) -> bool:
    """Whether some path matches both."""
    shorter, longer = sorted((one, other), key=lambda each: len(each.fixed))
    if len(shorter.fixed) < len(longer.fixed) and not shorter.open_ended:
        return False
    return all(_agree(mine, theirs) for mine, theirs in zip(one.fixed, other.fixed, strict=False))


def intersection(one: Segments, other: Segments) -> Segments | None:
    """Return the pattern of the paths that match both, or None: there are none."""
    if not overlap(one, other):
        return None
    shorter, longer = sorted((one, other), key=lambda each: len(each.fixed))
    both = (
        mine if theirs == ANY_SEGMENT else theirs for mine, theirs in zip(shorter.fixed, longer.fixed, strict=False)
    )
    fixed = (*both, *longer.fixed[len(shorter.fixed) :])
    return Segments(fixed, one.open_ended and other.open_ended)


def _agree(one: str, other: str) -> bool:
    if one == other:
        return True
    return (one == ANY_SEGMENT and other != "") or (other == ANY_SEGMENT and one != "")


@dataclass(frozen=True, slots=True)
class _Walk:
    """A walk through the kinds of paths within `within`, deeper with each segment."""

    within: Segments
    patterns: Sequence[tuple[int, Segments]]
    empty_end: bool
    steps: Steps

    def run(self) -> Iterator[Region]:
        # Two prefixes at which the same patterns go on lead to the same regions: one of them is enough.
        waiting: list[tuple[tuple[str, ...], _Alive]] = [((), tuple(self.patterns))]
        met: set[tuple[int, frozenset[int]]] = set()
        while waiting:
            prefix, alive = waiting.pop()
            at = len(prefix)
            self.steps.take(1 + len(alive))
            if at and _ends(self.within, at):
                yield Region(prefix, _ending(alive, at))
            if len(self.within.fixed) <= at and not self.within.open_ended:
                continue
            for segment, going_on in self._kinds(alive, at):
                self.steps.take(1 + len(going_on))
                numbers = frozenset(number for number, _ in going_on)
                if segment == "":  # the last: what goes on behind it is no path
                    yield Region((*prefix, ""), _ending(going_on, at + 1))
                elif self._nothing_tells_apart(going_on, at + 1):
                    yield Region((*prefix, segment), numbers)
                elif (at + 1, numbers) not in met:
                    met.add((at + 1, numbers))
                    waiting.append(((*prefix, segment), going_on))

    def _nothing_tells_apart(self, alive: _Alive, at: int) -> bool:
        """Whether all patterns match, here and below, whatever follows."""
        tail = len(self.within.fixed) <= at and self.within.open_ended
        return tail and all(len(each.fixed) <= at and each.open_ended for _, each in alive)

    def _kinds(self, alive: _Alive, at: int) -> Iterator[tuple[str, _Alive]]:
        """The segments worth trying here, with the patterns that go on by them.

        What `within` demands; or each that is named, another one, and the empty one.
        """
        tails = [pair for pair in alive if at >= len(pair[1].fixed) and pair[1].open_ended]
        stars, named = list(tails), dict[str, list[tuple[int, Segments]]]()
        for pair in alive:
            if at < len(pair[1].fixed):
                wanted = pair[1].fixed[at]
                (stars if wanted == ANY_SEGMENT else named.setdefault(wanted, [])).append(pair)
        mine = self.within.fixed[at] if at < len(self.within.fixed) else None
        if mine is not None and mine != ANY_SEGMENT:
            yield mine, (*(stars if mine else tails), *named.get(mine, ()))
            return
        for segment in sorted(named.keys() - {""}):
            yield segment, (*stars, *named[segment])
        yield _not_among(named), tuple(stars)
        if mine is None and self.empty_end:
            yield "", (*tails, *named.get("", ()))


def _not_among(named: Container[str]) -> str:
    """A segment that no pattern names."""
    return next(name for number in count(1) if (name := _OTHER if number == 1 else f"{_OTHER}-{number}") not in named)


def _ending(alive: _Alive, at: int) -> frozenset[int]:
    return frozenset(number for number, each in alive if _ends(each, at))


def _ends(pattern: Segments, at: int) -> bool:
    """Whether a path of so many segments, which went along with a pattern so far, matches it."""
    return len(pattern.fixed) == at or (pattern.open_ended and len(pattern.fixed) < at)
