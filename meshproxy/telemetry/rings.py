"""The past of one edge in one resolution: records of one size in one block of bytes, the oldest dropped; pure.

Only steps in which something happened have a record, so an edge that is called once an hour takes next to nothing. The
last step is kept as numbers and becomes bytes when the next one begins: each second is added to all three resolutions
of every busy edge in one turn of the loop, and making a record of it anew each time would hold up traffic by 12 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import add
from struct import Struct, error
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.telemetry.bounds import BUCKETS
from meshproxy.telemetry.flows import Point

if TYPE_CHECKING:
    from collections.abc import Iterator

# The step, as a number since 1970, then a Point's counts in order; no minute has more requests than 32 bits count.
_PLAIN: Final = Struct("<4I3QI")  # 44 bytes
_WITH_HISTOGRAM: Final = Struct(f"<4I3Q{1 + BUCKETS}I")  # 104 bytes
_COUNTS: Final = 7  # before the histogram
_MOST: Final = (1 << 32) - 1
_MOST_BYTES: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Tier:
    """A resolution: a column for each `step` seconds, `columns` of them."""

    name: str
    step: int
    columns: int
    has_histogram: bool

    @property
    def bytes_per_edge(self) -> int:
        """What an edge takes at most: when something happened in every step."""
        return self.columns * self.layout.size

    @property
    def layout(self) -> Struct:
        """How a record is kept."""
        return _WITH_HISTOGRAM if self.has_histogram else _PLAIN

    def column_of(self, at: float) -> int:
        """Return the step, as a number since 1970, that has the moment `at` (seconds since 1970)."""
        return int(at // self.step)


TIERS: Final = {
    tier.name: tier for tier in (Tier("1s", 1, 600, False), Tier("10s", 10, 2160, True), Tier("1m", 60, 2880, True))
}


def tier_for(window: float) -> Tier:
    """Return the finest resolution that has a histogram and reaches back so many seconds, else the coarsest."""
    tens = TIERS["10s"]
    return tens if window <= tens.step * tens.columns else TIERS["1m"]


# What the whole past of an edge that never rests takes at most: 26 400 + 224 640 + 299 520 bytes.
BYTES_PER_EDGE: Final = sum(tier.bytes_per_edge for tier in TIERS.values())


def counts_of(point: Point) -> tuple[int, ...]:
    """Return a point's counts and then its histogram's, in one row: as rings add them up and keep them."""
    *counts, histogram = msgspec.structs.astuple(point)
    return (*counts, *histogram)


class Ring:
    """At most `tier.columns` records, of the last so many steps."""

    __slots__ = ("_layout", "_open", "_open_at", "_records", "_tier")

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._layout = tier.layout
        self._records = bytearray()  # of the steps before the last
        self._open: list[int] = []  # what happened in the last one; empty: nothing ever did
        self._open_at = -1  # which one that is

    def __repr__(self) -> str:
        return f"<Ring {self._tier.name} {len(self)}/{self._tier.columns}>"

    def __len__(self) -> int:
        return len(self._records) // self._layout.size + bool(self._open)

    def add(self, column: int, counts: tuple[int, ...]) -> None:
        """Add `counts_of` what happened in a step: the last one or a later one (an earlier counts as the last)."""
        if self._open and column <= self._open_at:
            self._open = list(map(add, self._open, counts))
            return
        if self._open:
            self._records += self._packed()
            self._forget_records_before(column - self._tier.columns + 1)
        self._open = list(counts if self._tier.has_histogram else counts[:_COUNTS])
        self._open_at = column

    def forget_before(self, column: int) -> None:
        """Drop what happened before a step."""
        self._forget_records_before(column)
        if self._open_at < column:
            self._open, self._open_at = [], -1

    def forget_from(self, column: int) -> None:
        """Drop what happened in a step and after it: the clock was set back, and it has not been yet."""
        if self._open_at < column:
            return
        size, records = self._layout.size, self._records
        while records and int.from_bytes(records[-size : len(records) - size + 4], "little") >= column:
            del records[-size:]
        if records:
            self._open_at, *self._open = self._layout.unpack_from(records, len(records) - size)
            del records[-size:]
        else:
            self._open, self._open_at = [], -1

    def since(self, column: int) -> Iterator[tuple[int, Point]]:
        """Yield the steps from `column` on in which something happened, and what, in the order of time.

        It must not be added to meanwhile.
        """
        size = self._layout.size
        for start in range(self._start_of(column), len(self._records), size):
            yield _read(self._layout.unpack_from(self._records, start))
        if self._open and self._open_at >= column:
            yield _read(self._layout.unpack(self._packed()))

    def _start_of(self, column: int) -> int:
        """Where the first record from a step on begins: by halving, for most who ask want the last few."""
        size, low, high = self._layout.size, 0, len(self._records) // self._layout.size
        while low < high:
            middle = (low + high) // 2
            if int.from_bytes(self._records[middle * size : middle * size + 4], "little") < column:
                low = middle + 1
            else:
                high = middle
        return low * size

    def _forget_records_before(self, column: int) -> None:
        size, records = self._layout.size, self._records
        end = 0
        while end < len(records) and int.from_bytes(records[end : end + 4], "little") < column:
            end += size
        if end:
            del records[:end]

    def _packed(self) -> bytes:
        """Return the record of the last step; what is too large for it is told as the most that it can hold."""
        try:
            return self._layout.pack(self._open_at, *self._open)
        except error:
            most = (*(_MOST,) * 3, *(_MOST_BYTES,) * 3, *(_MOST,) * (1 + BUCKETS))
            return self._layout.pack(self._open_at, *map(min, self._open, most))


def _read(record: tuple[int, ...]) -> tuple[int, Point]:
    column, requests, errors, denied, bytes_in, bytes_out, micros, opened, *histogram = record
    if histogram:
        return column, Point(requests, errors, denied, bytes_in, bytes_out, micros, opened, tuple(histogram))
    return column, Point(requests, errors, denied, bytes_in, bytes_out, micros, opened)
