"""The past of one edge in one resolution: records of one size in one block of bytes, the oldest dropped; pure.

Only steps in which something happened have a record, so an edge that is called once an hour takes next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from meshproxy.telemetry.bounds import BUCKETS
from meshproxy.telemetry.flows import Point

if TYPE_CHECKING:
    from collections.abc import Iterator

# The step, as a number since 1970, then the counts of a Point; a minute cannot have more requests than 32 bits count.
_PLAIN: Final = Struct("<5I3Q")  # 44 bytes
_WITH_HISTOGRAM: Final = Struct(f"<5I3Q{BUCKETS}I")  # 104 bytes
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


class Ring:
    """At most `tier.columns` records, of the last so many steps."""

    __slots__ = ("_last", "_layout", "_records", "_tier")

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._layout = tier.layout
        self._records = bytearray()
        self._last = -1  # the step of the last record

    def __repr__(self) -> str:
        return f"<Ring {self._tier.name} {len(self)}/{self._tier.columns}>"

    def __len__(self) -> int:
        return len(self._records) // self._layout.size

    def add(self, column: int, point: Point) -> None:
        """Add what happened in a step, which is the last one or a later one (an earlier counts as the last)."""
        if column <= self._last:
            before = self._read(self._layout.unpack_from(self._records, len(self._records) - self._layout.size))
            del self._records[-self._layout.size :]
            self._append(self._last, before[1] + point)
            return
        self._append(column, point)
        self._last = column
        self.forget_before(column - self._tier.columns + 1)

    def forget_before(self, column: int) -> None:
        """Drop what happened before a step."""
        size, records = self._layout.size, self._records
        end = 0
        while end < len(records) and int.from_bytes(records[end : end + 4], "little") < column:
            end += size
        if end:
            del records[:end]
        if not records:
            self._last = -1

    def forget_from(self, column: int) -> None:
        """Drop what happened in a step and after it: the clock was set back, and it has not been yet."""
        size, records = self._layout.size, self._records
        while records and int.from_bytes(records[-size : len(records) - size + 4], "little") >= column:
            del records[-size:]
        self._last = int.from_bytes(records[-size : len(records) - size + 4], "little") if records else -1

    def since(self, column: int) -> Iterator[tuple[int, Point]]:
        """Yield the steps from `column` on in which something happened, and what, in the order of time.

        It must not be added to meanwhile.
        """
        size = self._layout.size
        for start in range(self._start_of(column), len(self._records), size):
            yield self._read(self._layout.unpack_from(self._records, start))

    def _start_of(self, column: int) -> int:
        """Where the first record from a step on begins: by halving, for most who ask want the last few."""
        size, low, high = self._layout.size, 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if int.from_bytes(self._records[middle * size : middle * size + 4], "little") < column:
                low = middle + 1
            else:
                high = middle
        return low * size

    def _append(self, column: int, point: Point) -> None:
        plain = (
            column,
            min(point.requests, _MOST),
            min(point.errors, _MOST),
            min(point.denied, _MOST),
            min(point.opened, _MOST),
            min(point.bytes_in, _MOST_BYTES),
            min(point.bytes_out, _MOST_BYTES),
            min(point.micros, _MOST_BYTES),
        )
        if self._tier.has_histogram:
            self._records += self._layout.pack(*plain, *(min(count, _MOST) for count in point.histogram))
        else:
            self._records += self._layout.pack(*plain)

    @staticmethod
    def _read(record: tuple[int, ...]) -> tuple[int, Point]:
        column, requests, errors, denied, opened, bytes_in, bytes_out, micros, *histogram = record
        if histogram:
            return column, Point(requests, errors, denied, bytes_in, bytes_out, micros, opened, tuple(histogram))
        return column, Point(requests, errors, denied, bytes_in, bytes_out, micros, opened)
