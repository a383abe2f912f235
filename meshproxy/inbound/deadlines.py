"""When the patience with an HTTP connection runs out: a table over the phases of its exchange.

Deadlines are looked at by the sweeper, on a coarse clock; `now` stands still between two ticks, so each gets one tick
on top and is never early.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from meshproxy.http.endings import STAY_AWAY
from meshproxy.http.phase import Phase
from meshproxy.wire.sweep import TICK

# How long before the end of the shorter certificate life a connection is asked to end with its next answer.
_POLITE: Final = 30.0

# What moves slower than the minimum rate is judged by windows of this many seconds.
_WINDOW: Final = 10.0

# Who was told to come back later is not heard for so long at most: with the ticks at both ends, no longer than that.
PUT_OFF: Final = STAY_AWAY - 2 * TICK

_NEVER: Final = float("inf")

# Phases that end at a moment, whatever moves, and the limit each ends by; for IDLE see `_limit_of_phase`.
_BY_PHASE: Final = {
    Phase.IDLE: "",
    Phase.PUT_OFF: "",
    Phase.HEAD: "head_timeout",
    Phase.EXPECTING: "response_timeout",
    Phase.AWAITING: "response_timeout",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, and bytes per second (0: no minimum), that one connection is given."""

    head: float
    idle: float
    response: float
    body_min_rate: int
    request: float = _NEVER  # from its first byte to the last of its answer
    age: float = _NEVER  # of the connection
    shortest: float = field(init=False)  # of what a phase may be given; worked out once for all connections

    def __post_init__(self) -> None:
        object.__setattr__(self, "shortest", min(self.head, self.response, self.idle, self.request, _WINDOW))


class Due(Enum):
    """What a deadline that has passed asks for."""

    NOTHING = auto()
    WIND_DOWN = auto()  # a certificate ends soon, or the connection grows too old: end at the next chance
    CUT = auto()  # it has, or is
    TIMED_OUT = auto()  # the phase has lasted too long
    UPSTREAM_STALLED = auto()  # the upstream does not take the request


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether bytes wait for the caller, and for the upstream, to take them."""

    downstream: bool
    upstream: bool


class Deadlines:
    """The deadlines of one connection.

    Whoever moves it on writes down when a phase began (`since`, seconds of the sweeper's clock) and how many bytes it
    has `moved` in it, no more: what follows is worked out by who looks, which is seldom. `shortest` is how soon after
    its beginning a phase may have to end (seconds): who looks that often misses nothing but the end of a PUT_OFF, which
    lasts `put_off`, and is looked at as it begins. `limit` is the key of the settings that what was `due` last comes
    from; empty for a certificate's end, and in a drain.
    """

    __slots__ = (
        "_ages_by",
        "_drain_at",
        "_is_first",
        "_looked_at",
        "_patience",
        "_phase",
        "_phase_ends",
        "_request_ends",
        "_still_since",
        "_wind_down_at",
        "cut_at",
        "limit",
        "moved",
        "put_off",
        "shortest",
        "since",
    )

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._wind_down_at = self._drain_at = self.cut_at = self._request_ends = _NEVER
        self._ages_by = self.limit = ""
        self._is_first = True
        self.shortest = patience.shortest
        self.since = 0.0
        self.moved = 0
        self.put_off = PUT_OFF
        self._looked_at: tuple[Phase, float, bool] | None = None  # the phase that was seen last, and when it began
        self._phase = Phase.IDLE
        self._phase_ends = _NEVER  # of the phase, or of a window of it
        self._still_since = 0.0

    def __repr__(self) -> str:
        return f"<Deadlines {self._phase.name} ends={self._phase_ends:g} cut={self.cut_at:g} moved={self.moved}>"

    @property
    def earliest(self) -> float:
        """When something ends next, if no other phase begins before."""
        return min(self._phase_ends, self._request_ends, self._wind_down_at, self.cut_at)

    @property
    def ages_by(self) -> str:
        """Return the key of the settings that bounds the life of the connection; empty: a certificate does."""
        return self._ages_by

    def live_for(self, seconds: float, now: float) -> None:
        """Cut after so many seconds, or as old as its patience has it, and ask for an end some time before."""
        self._ages_by = "max_connection_age" if self._patience.age < seconds else ""
        seconds = min(seconds, self._patience.age)
        self._wind_down_at, self.cut_at = now + max(seconds - _POLITE, seconds / 2), now + seconds

    def drain(self, until: float, now: float) -> None:
        """Rest no longer than `until`; an earlier such call holds."""
        self._drain_at = min(self._drain_at, until)
        self.shortest = 0.0
        if self._phase is Phase.IDLE:
            self._phase_ends = min(self._phase_ends, max(self._drain_at, now) + TICK)

    def request_began(self, at: float) -> None:
        """Take when the current request began; `inf`: there is none."""
        self._request_ends = at + self._patience.request + TICK

    def look(self, phase: Phase, *, first: bool) -> None:
        """Take which phase it is in now; `first` while nothing was ever asked on the connection."""
        looked_at = (phase, self.since, first)
        if looked_at == self._looked_at:
            return
        self._looked_at = looked_at
        self._phase, self._still_since, self._is_first = phase, self.since, first
        self._phase_ends = self.since + self._seconds(first=first) + TICK
        if phase is Phase.IDLE:
            self._phase_ends = min(self._phase_ends, max(self._drain_at, self.since) + TICK)

    def rests(self, phase: Phase, now: float, *, first: bool) -> bool:
        """Whether it is between two requests as it was when it was looked at last, and nothing has ended by `now`."""
        return phase is Phase.IDLE and now < self.earliest and self._looked_at == (phase, self.since, first)

    def _seconds(self, *, first: bool) -> float:
        patience = self._patience
        if self._phase is Phase.IDLE:
            # Who has just connected is expected to ask; who has asked before may rest.
            return patience.head if first else patience.idle
        if self._phase is Phase.HEAD:
            return patience.head
        if self._phase is Phase.PUT_OFF:
            return self.put_off
        if self._phase in {Phase.EXPECTING, Phase.AWAITING}:
            return patience.response
        if self._phase is Phase.CONNECTING:
            return _NEVER  # the dialler has its own
        return self._window

    @property
    def _window(self) -> float:
        return min(_WINDOW, self._patience.idle)

    def due(self, now: float, waiting: Waiting) -> Due:
        """Tell what is to be done now, and begin the next window where there is one."""
        self.limit = ""
        if now >= self.cut_at:
            return Due.CUT
        if now >= self._wind_down_at:
            self._wind_down_at = _NEVER
            self.limit = self._ages_by
            return Due.WIND_DOWN
        if now >= self._request_ends:
            self._request_ends = _NEVER
            self.limit = "request_timeout"
            return Due.TIMED_OUT
        if now < self._phase_ends:
            return Due.NOTHING
        if self._phase in _BY_PHASE:
            self.limit = self._limit_of_phase()
            return Due.TIMED_OUT
        return self._judge_window(now, waiting)

    def _limit_of_phase(self) -> str:
        if self._phase is not Phase.IDLE:
            return _BY_PHASE[self._phase]
        if self._drain_at < _NEVER:
            return ""
        return "head_timeout" if self._is_first else "idle_timeout"

    def _judge_window(self, now: float, waiting: Waiting) -> Due:
        """Whether the window that ends now saw too little: of a body, from a reader, or of anything for too long."""
        moved, self.moved = self.moved, 0
        self._phase_ends = now + self._window
        if moved:
            self._still_since = now
        still = now - self._still_since >= self._patience.idle
        if self._phase in {Phase.BODY, Phase.DISCARDING} and waiting.upstream:
            self.limit = "idle_timeout" if still else ""
            return Due.UPSTREAM_STALLED if still else Due.NOTHING
        caller_is_slow = self._phase in {Phase.BODY, Phase.DISCARDING} or waiting.downstream
        is_too_slow = caller_is_slow and moved < self._patience.body_min_rate * self._window
        if still or is_too_slow:
            self.limit = "body_min_rate" if is_too_slow else "idle_timeout"
            return Due.TIMED_OUT
        return Due.NOTHING
