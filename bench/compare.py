"""From samples to statements: medians, ratios paired round by round, and whether a bound is kept."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.results import Block, Must


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, with the least and the greatest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Sum up one value per round."""
    return Spread(statistics.median(values), min(values), max(values))


def paired(subject: Sequence[float], other: Sequence[float]) -> Spread | None:
    """Sum up the ratios of two contestants, each taken within one round; None where one is not above zero.

    What slows a whole round (a neighbour, a clock that changes) is in both and cancels out. A difference of latencies
    can be nothing or less than it, and then there is no ratio.
    """
    if min(*subject, *other) <= 0:
        return None
    return spread([mine / theirs for mine, theirs in zip(subject, other, strict=True)])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a bound came out. `value` is what it was applied to, None when nobody to compare with was there.

    other      the best of those it is held against; empty when the bound is on the figure itself
    absent     those of them that were not measured
    """

    must: Must
    value: float | None
    other: str = ""
    absent: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool | None:
        """Whether the bound is kept; None when it was not measured."""
        return None if self.value is None else self.value <= self.must.limit

    @property
    def reaches_goal(self) -> bool:
        """Whether the goal is reached as well."""
        return self.value is not None and self.must.goal is not None and self.value <= self.must.goal


def judge(block: Block, must: Must) -> Verdict:
    """Hold a block's subject against a bound; the best peer is the one with the lowest median."""
    mine = block.samples[block.subject]
    if not must.against:
        return Verdict(must, spread(mine).median)
    absent = tuple(name for name in must.against if name not in block.samples)
    present = [name for name in must.against if name in block.samples]
    if not present:
        return Verdict(must, None, absent=absent)
    best = min(present, key=lambda name: statistics.median(block.samples[name]))
    ratio = paired(mine, block.samples[best])
    return Verdict(must, None if ratio is None else ratio.median, best, absent)
