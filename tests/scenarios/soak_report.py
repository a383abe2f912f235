"""What a soak ends in: who asked what and what became of it, and how large the sidecars were over time.

Pure: it is given numbers and returns text.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one sidecar; `at` is in seconds since the begin, `resident` in bytes."""

    at: float
    resident: int
    descriptors: int
    tasks: float
    requests: float


def outcomes(told: Mapping[tuple[str, str], int], expected: str, names: Sequence[str]) -> list[str]:
    """A line for each of `names`: how often what was expected came of it, and whatever else did."""
    lines = []
    for name in names:
        found = {outcome: count for (who, outcome), count in told.items() if who == name}
        others = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items()) if outcome != expected)
        lines.append(f"  {name:<26} {found.get(expected, 0):>9,} {expected:<8} {others or '-'}")
    return lines


def unexpected(told: Mapping[tuple[str, str], int], expected: str, names: Sequence[str]) -> int:
    """How often something else than what was expected came of them."""
    return sum(count for (who, outcome), count in told.items() if who in names and outcome != expected)


def curve(values: Sequence[float]) -> str:
    """A small plot: from the least value to the greatest, over time."""
    if not values:
        return ""
    width = min(_COLUMNS, len(values))
    edges = [round(column * len(values) / width) for column in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    least, span = min(means), max(means) - min(means)
    return "".join(_BARS[round((mean - least) / span * (len(_BARS) - 1))] if span else _BARS[0] for mean in means)


def slope(samples: Sequence[Sample], *, after: float) -> float:
    """By how many bytes per hour memory grew behind `after` (seconds), by least squares; 0 for less than two looks."""
    late = [sample for sample in samples if sample.at >= after]
    if len(late) < 2:
        return 0.0
    middle = sum(sample.at for sample in late) / len(late)
    mean = sum(sample.resident for sample in late) / len(late)
    spread = sum((sample.at - middle) ** 2 for sample in late)
    return 3600 * sum((sample.at - middle) * (sample.resident - mean) for sample in late) / spread if spread else 0.0


def sizes(name: str, samples: Sequence[Sample]) -> list[str]:
    """How large a sidecar was: a curve with its first, least, greatest and last value, for each number."""
    rows = {
        "memory, MiB": [sample.resident / MIB for sample in samples],
        "descriptors": [float(sample.descriptors) for sample in samples],
        "tasks": [sample.tasks for sample in samples],
        "requests/s": [
            (b.requests - a.requests) / (b.at - a.at) for a, b in itertools.pairwise(samples) if b.at > a.at
        ],
    }
    lines = [f"  {name:<14} {'first':>7} {'least':>7} {'most':>7} {'last':>7}"]
    for what, values in rows.items():
        if values:
            told = " ".join(f"{value:>7.1f}" for value in (values[0], min(values), max(values), values[-1]))
            lines.append(f"    {what:<12} {told}  {curve(values)}")
    return lines
