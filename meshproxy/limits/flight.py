"""How much is going on in this process, and whether more may begin: admission, decided by numbers.

Two questions are asked of it. Each request asks for room `in flight`: that is a comparison. Each new connection asks
whether it would be turned away (`objection`), before anything is done for it. The answers change when somebody
`observe`s how it goes: how long what had come lay unread (the lag of the loop), and how full the memory is.

The lag is judged as CoDel judges a queue (RFC 8289 section 3.1): by its smallest value within an interval. A burst, a
pause of the machine, one slow callback make some value large; only what stands makes all of them large, and only then
there is more to do than can be done. Then the room shrinks interval by interval, below what was in flight at most and
as far as the lag is too large, for in a closed loop the one grows with the other. It does not shrink below `FLOOR`: a
few dozen requests are no crowd, whatever else keeps the loop busy, and refusing them would not help. Nor does it while
the loop has time to sleep: then it is somebody else who keeps the processor, and whatever we refuse, what we do not
refuse waits as long.

Once somebody is refused, the others are to be served well: the lag is brought down to half the bound. Below that, down
to a quarter of it, nothing changes; further below, the room grows while it is asked for. When nobody was refused for a
while there is no bound any more.

Some of those who were refused are let in all the same (`takes_back`), beyond the room: who asks again when he is
answered finds the room that he has left himself, and who comes from outside would never find any. It is few of them at
a time, for all at once are what made it too much.
"""

from __future__ import annotations

from typing import Final, Protocol
from weakref import WeakSet

FLOOR: Final = 64  # requests in flight that are always let in
INTERVAL: Final = 0.25  # seconds over which the smallest lag is taken
UNBOUNDED: Final = 1 << 30

STANDS: Final = 2  # intervals in a row; one alone may be a burst
LASTS: Final = 4  # intervals in a row, after which refusing requests has not helped
# Intervals in a row without a refusal, after which there is no bound: whoever was refused has come again by then.
QUIET: Final = 8

SATURATED: Final = 0.9  # share of the time in which the loop runs or would, from which on it has none to spare

# Once somebody has to be refused, the others are to be served well: the lag is brought down to this share of the bound.
_TARGET: Final = 0.5

# By how much the room changes in an interval.
_LEAST: Final = 0.7
_SHRINK: Final = 0.9
_GROW: Final = 1.05

# What share of the room is given in an interval to those who were refused before; and while half of the room is not
# used, or the loop has time to sleep.
_TAKEN_BACK: Final = 0.05
_TAKEN_BACK_IDLE: Final = 0.25

# A connection costs as much as twenty requests: while there is a crowd of those, it is turned away when the lag is that
# much beyond the bound, which refusing requests did not help. Where there is none, it is handshakes that keep the loop
# busy: `waiting_room` bounds how many wait for theirs, and turning away whoever comes next would hit the honest as
# often as others.
_FAR_BEYOND: Final = 5.0

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

    Whoever begins a request `has_room` while `count` is below `most`, which need not be asked where it `is_bounded` by
    nothing. `pools` know who has begun one, and are forgotten with those who made them.

    `max_lag` in seconds, None: the lag refuses nobody. `descriptors`: how many its connections may have together.
    """

    __slots__ = (
        "_behind",
        "_busiest",
        "_comes_back",
        "_interval_ends",
        "_least_lag",
        "_max_lag",
        "_quiet",
        "_refused",
        "_was_full",
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
        self._busiest = 0  # in flight at most, as far as it was seen in this interval
        self._was_full = self._refused = False  # in this interval somebody found no room; or came back too early
        self._behind = 0  # intervals in a row that were
        self._quiet = 0  # intervals in a row without a refusal
        self._comes_back = 0  # how many more who were refused are let in
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

    def has_room(self) -> bool:
        """Whether there is room for another request, which is refused otherwise; asked while it `is_bounded` only."""
        if self.count < self.most:
            return True
        self._was_full = self._refused = True
        return False

    def takes_back(self) -> bool:
        """Whether somebody is let in who was refused before, and asks again; asked while it `is_bounded` only."""
        self._refused = True
        if self._comes_back <= 0:
            return False
        self._comes_back -= 1
        return True

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
        self._quiet = self._comes_back = 0

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
        self._busiest = max(self._busiest, self.count)
        if now < self._interval_ends:
            return
        if self._max_lag is not None:
            self._judge(self._least_lag, self._max_lag)
        self._interval_ends = now + INTERVAL
        self._least_lag, self._busiest = float("inf"), 0
        self._was_full = self._refused = False

    def _judge(self, standing: float, bound: float) -> None:
        target = bound * _TARGET if self.is_bounded else bound
        is_busy = self.saturation > SATURATED
        if standing > target and is_busy:
            self._behind += 1
            if self.is_bounded or self._behind >= STANDS:
                self._shrink(standing, bound)
            return
        self._behind, self.sheds = 0, False
        # While memory is short there may be time for more, but there is no room.
        if self.is_bounded and not self.is_short_of_memory:
            self._ease(keeps_up=standing < target / 2 or not is_busy)

    def _shrink(self, standing: float, bound: float) -> None:
        busiest = self.most if self._was_full else min(self.most, self._busiest)
        self._let_in(max(FLOOR, int(busiest * min(max(bound * _TARGET / standing, _LEAST), _SHRINK))))
        is_grave = standing > bound * _FAR_BEYOND and busiest >= FLOOR and self._behind >= LASTS
        self.sheds = self.sheds or is_grave
        if not self.sheds:
            self._take_back()

    def _ease(self, *, keeps_up: bool) -> None:
        quiet = 0 if self._refused else self._quiet + 1
        if quiet >= QUIET:
            self._let_in(UNBOUNDED)
            return
        if keeps_up and self._was_full:
            self._let_in(int(self.most * _GROW) + 1)
        self._quiet = quiet
        self._take_back()

    def _take_back(self) -> None:
        is_idle = self.saturation <= SATURATED or self._busiest < self.most / 2
        share = _TAKEN_BACK_IDLE if is_idle else _TAKEN_BACK
        self._comes_back = 0 if self.is_short_of_memory else int(self.most * share)
