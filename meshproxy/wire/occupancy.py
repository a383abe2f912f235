"""How many connections of one listener are open, and whose turn it is to accept the next.

Several processes that wait at one listening socket are all woken by each connection, and whoever runs first would take
all that wait: a burst would land on one of them. So they share a page of memory with a counter each, and who holds more
than another lets the other go first.
"""

from __future__ import annotations

import mmap
from typing import Final

from meshproxy.wire.anonymous import anonymous_file

# Connections accepted in a row before other tasks get a turn.
_FAIR_SHARE: Final = 64

# One part in so many may be uneven: with thousands open, one connection per turn of the loop would be too slow.
_SLACK: Final = 8

_BYTES: Final = 4  # of one counter
_ABSENT: Final = 0xFFFF_FFFF  # in the slot of a process that does not accept: it is nobody to wait for


class Occupancy:
    """The count of a process that has its listener to itself."""

    def __init__(self) -> None:
        self.mine = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.mine} of {self.total}>"

    @property
    def total(self) -> int:
        """How many are open, in all processes."""
        return self.mine

    def enter(self) -> None:
        """Count one more here."""
        self.mine += 1

    def leave(self) -> None:
        """Count one less here."""
        self.mine -= 1

    def turn(self) -> int:
        """How many to accept now; 0: somebody else should come first."""
        return _FAIR_SHARE


class SharedOccupancy(Occupancy):
    """The counts of `sharers` processes in `page`, a descriptor from `make_page`; ours is in slot number `slot`."""

    def __init__(self, page: int, slot: int, sharers: int) -> None:
        super().__init__()
        self._counts = _counters(page, sharers)
        self._slot = slot
        self._counts[slot] = 0

    @property
    def total(self) -> int:
        """How many are open, in all processes that accept here."""
        return sum(count for count in self._counts if count != _ABSENT)

    def enter(self) -> None:
        """Count one more here, for all to see."""
        super().enter()
        self._counts[self._slot] = self.mine

    def leave(self) -> None:
        """Count one less here, for all to see."""
        super().leave()
        self._counts[self._slot] = self.mine

    def turn(self) -> int:
        """How many to accept until we hold an eighth more (at least one) than who holds the fewest; 0: we do."""
        fewest = min((count for slot, count in enumerate(self._counts) if slot != self._slot), default=_ABSENT)
        return max(0, min(fewest + max(fewest // _SLACK, 1) - self.mine, _FAIR_SHARE))


def make_page(sharers: int) -> int:
    """Return the descriptor of memory to be shared by so many processes, none of which accepts yet; the caller's."""
    page = anonymous_file(sharers * _BYTES)
    for slot in range(sharers):
        vacate(page, slot, sharers)
    return page


def vacate(page: int, slot: int, sharers: int) -> None:
    """Take the process of slot number `slot` out of the count: it has ended."""
    _counters(page, sharers)[slot] = _ABSENT


def _counters(page: int, sharers: int) -> memoryview[int]:
    # An aligned counter is stored and loaded in one piece; being behind by one moment is harmless.
    return memoryview(mmap.mmap(page, sharers * _BYTES)).cast("I")
