"""How much is going on in this process, and whether more may begin: admission, decided by numbers.

Two questions are asked of it. Each request asks for room `in flight`: that is a comparison. Each new connection asks
whether it would be turned away (`objection`), before anything is done for it. The answers change when somebody
`observe`s how it goes: how long what had come lay unread (the lag of the loop), and how full the memory is.

The lag is judged as CoDel judges a queue (RFC 8289 section 3.1): by its smallest value within an interval. A burst, a
pause of the machine, one slow callback make some value large; only what stands makes all of them large, and only then
there is more to do than can be done. Then the room shrinks by a tenth per interval below what is in flight, and grows
again as soon as the lag is gone. It does not shrink below `FLOOR`: a few dozen requests are no crowd, whatever else
keeps the loop busy, and refusing them would not help. Nor does it while the loop has time to sleep: then it is somebody
else who keeps the processor, and whatever we refuse, what we do not refuse waits as long.
"""

from __future__ import annotations

from typing import Final, Protocol
from weakref import WeakSet

FLOOR: Final = 64  # requests in flight that are always let in
INTERVAL: Final = 0.25  # seconds over which the smallest lag is taken
UNBOUNDED: Final = 1 << 30

SATURATED: Final = 0.9  # share of the time in which the loop runs or would, from which on it has none to spare

_SHRINK: Final = 0.9
_GROW: Final = 1.05

# A connection costs as much as twenty requests: while there is a crowd of those, it is turned away when the lag is that
# much beyond the bound. Where there is none, it is handshakes that keep the loop busy: `waiting_room` bounds how many
# wait for theirs, and turning away whoever comes next would hit the honest as often as others.
_FAR_BEYOND: Final = 2.0

# Shares of the memory there is: beyond the one nothing new begins, until it is below the other.
MEMORY_FULL: Final = 0.95
MEMORY_EASED: Final = 0.90

OVERLOAD: Final = "overload"
MEMORY: Final = "memory"
DESCRIPTORS: Final = "descriptors"


class HasRequests(Protocol):
    """Something that knows how many requests are going on there."""

    @property
    def in_flight(self) -> int:
        """How many."""


class Flight:
    """One process's.

    Whoever begins a request has room while `count` is below `most`, which need not be asked where it `is_bounded` by
    nothing. `pools` know who has begun one, and are forgotten with those who made them.

    `max_lag` in seconds, None: the lag refuses nobody. `descriptors`: how many its connections may have together.
    """

    __slots__ = (
        "_interval_ends",
        "_least_lag",
        "_max_lag",
        "descriptors",
        "held",
        "is_bounded",
        "is_short_of_memory",
        "lag",
        "most",
        "pools",
        "saturation",
        "sheds",
    )

    def __init__(self, *, max_lag: float | None = None, descriptors: int = UNBOUNDED) -> None:
        self._max_lag = max_lag
        self._interval_ends = float("inf")  # until it is observed first
        self._least_lag = float("inf")  # of this interval
        self.pools: WeakSet[HasRequests] = WeakSet()
        self.most = UNBOUNDED  # requests that have an upstream connection
        self.is_bounded = False
        self.held = 0  # descriptors of connections
        self.descriptors = descriptors
        self.lag = 0.0  # seconds; as it was observed last
        self.saturation = 1.0  # what share of the time the loop was busy; all of it, where nobody knows
        self.sheds = False  # new connections, for want of time
        self.is_short_of_memory = False

    def __repr__(self) -> str:
        most = self.most if self.is_bounded else "any"
        return f"<Flight {self.count}/{most} lag={self.lag * 1000:.1f}ms sheds={self.sheds}>"

    @property
    def count(self) -> int:
        """How many requests have an upstream connection."""
        return sum(pool.in_flight for pool in self.pools)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another request; asked of one that `is_bounded` only."""
        return self.count >= self.most

    @property
    def turned_away_for(self) -> str:
        """Why new connections are turned away, whatever they take: for want of time or memory; empty: they are not."""
        if self.is_short_of_memory:
            return MEMORY
        return OVERLOAD if self.sheds else ""

    @property
    def is_overloaded(self) -> bool:
        """Whether new connections are turned away for that."""
        return self.sheds or self.is_short_of_memory

    def bound(self, max_lag: float | None) -> None:
        """Bear so much lag from now on."""
        self._max_lag = max_lag
        if max_lag is None:
            self.sheds = False
            self._let_in(UNBOUNDED)

    def _let_in(self, most: int) -> None:
        self.most, self.is_bounded = most, most < UNBOUNDED

    def objection(self, weight: int) -> str:
        """Why a new connection that takes so many descriptors is turned away; empty: it is not."""
        return DESCRIPTORS if self.held + weight > self.descriptors else self.turned_away_for

    def observe_memory(self, share: float) -> None:
        """Take how much of the memory there is, is used (1.0: all of it)."""
        was_short = self.is_short_of_memory
        self.is_short_of_memory = share > (MEMORY_EASED if was_short else MEMORY_FULL)
        if self.is_short_of_memory:
            self._let_in(min(self.most, FLOOR))
        elif was_short:
            self._let_in(UNBOUNDED)

    def observe(self, lag: float, now: float) -> None:
        """Take how long something that had come lay unread, at this time of any monotonic clock; seconds."""
        self.lag = lag
        self._interval_ends = min(self._interval_ends, now + INTERVAL)
        self._least_lag = min(self._least_lag, lag)
        if now < self._interval_ends:
            return
        least, self._least_lag = self._least_lag, float("inf")
        self._interval_ends = now + INTERVAL
        if self._max_lag is not None:
            self._judge(least, self._max_lag)

    def _judge(self, standing: float, bound: float) -> None:
        if standing > bound and self.saturation > SATURATED:
            self._let_in(max(FLOOR, int(min(self.most, self.count) * _SHRINK)))
            self.sheds = self.sheds or (standing > bound * _FAR_BEYOND and self.count >= FLOOR)
            return
        self.sheds = False
        if self.is_short_of_memory:
            return  # there is time for more, but no room
        if self.is_bounded and (standing < bound / 2 or self.saturation <= SATURATED):
            # What is not used up is no bound any more.
            self._let_in(UNBOUNDED if self.count < self.most // 2 else int(self.most * _GROW) + 1)
