"""What a process is told of its own condition: how far behind it is, and how full its memory; and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshproxy.admin.status import LoadStatus
from meshproxy.inbound.accept import REMEDIES
from meshproxy.wire.busy import Busyness
from meshproxy.wire.lag import EVERY, LagProbe, Turns
from meshproxy.wire.memory import Memory
from meshproxy.wire.sweep import TICK, next_tick

if TYPE_CHECKING:
    from meshproxy.limits.flight import Flight
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.readiness import Readiness

# Everything is looked at once a tick, when the sweeper wakes the process anyway; the lag so often, unless it is idle.
_OFTEN: Final = round(TICK / EVERY)

# What share of the time the loop may run, and how long a lag may be (seconds), without being looked at closely. It is
# far below the share from which on a lag is judged at all (`limits.flight.SATURATED`): what is looked at seldom is
# never judged by that.
_IDLE: Final = 0.1
_WORTH_A_LOOK: Final = 0.01


class Pressure:
    """Looks at one process, and has its `flight` know."""

    def __init__(self, flight: Flight, engine: Readiness, recorder: Recorder) -> None:
        self._flight = flight
        self._recorder = recorder
        self._lag = recorder.metrics.loop_lag.labels()
        self._probe = LagProbe(engine, self._observe)
        self._memory = Memory()
        self._busyness = Busyness()
        self._turns = Turns(_WORTH_A_LOOK, self._note)
        self._is_idle = False
        self._was_late = False  # since the last look
        self._told = ""  # why new connections are turned away, as it was told last

    def __repr__(self) -> str:
        return f"<Pressure {self._flight!r} {self._probe!r}>"

    @property
    def is_overloaded(self) -> bool:
        """Whether new connections are turned away."""
        return self._flight.is_overloaded

    @property
    def lag(self) -> float:
        """How long what has come lay unread, in seconds: the longest of the last second or two."""
        return self._probe.longest

    def status(self) -> LoadStatus:
        """Return what is shown of it."""
        flight = self._flight
        most = flight.most if flight.is_bounded else None
        return LoadStatus(
            flight.turned_away_for, self._probe.longest, flight.count, most, flight.held, flight.descriptors
        )

    async def run(self) -> None:
        """Look until cancelled; the engine must be running."""
        with self._probe.looking() as here:
            try:
                while True:
                    self._look()
                    ends = next_tick()
                    for still in range(0 if self._is_idle else _OFTEN - 1, 0, -1):
                        if (at := ends - still * EVERY) > trio.current_time():
                            await self._probe.look(here, at)
                    await self._probe.look(here, ends)
            finally:
                self._take_as(idle=False)

    def _look(self) -> None:
        flight = self._flight
        flight.saturation = share = self._busyness.share()
        flight.observe_memory(self._memory.share)
        self._tell()
        is_calm = share <= _IDLE and not self._was_late and not flight.is_bounded and not flight.is_overloaded
        self._was_late = False
        self._take_as(idle=is_calm)

    def _take_as(self, *, idle: bool) -> None:
        """Look seldom while it is idle, and have trio's turns timed instead."""
        if idle is self._is_idle:
            return
        self._is_idle = idle
        if idle:
            self._turns.begin()
        else:
            self._turns.end()

    def measure(self) -> None:
        """Bring the numbers of /metrics up to date."""
        metrics, flight = self._recorder.metrics, self._flight
        metrics.unread_lag.set(self._probe.longest)
        metrics.in_flight.set(flight.count)
        metrics.most_in_flight.set(flight.most)
        metrics.overloaded.set(flight.is_overloaded)

    def _observe(self, lag: float, now: float) -> None:
        self._was_late = self._was_late or lag >= _WORTH_A_LOOK
        self._lag.observe(lag)
        self._flight.observe(lag, now)

    def _note(self, lag: float) -> None:
        """Take what trio's tasks have held up while nobody looked closely."""
        self._was_late = True
        self._lag.observe(lag)
        self._probe.note(lag)

    def _tell(self) -> None:
        flight, log = self._flight, self._recorder.log
        why = flight.turned_away_for
        if why == self._told:
            return
        if why:
            lag = round(self._probe.longest * 1000)
            log.warning("overloaded", reason=why, lag_ms=lag, in_flight=flight.count, remedy=REMEDIES[why])
        else:
            log.info("overload_ended", reason=self._told)
        self._told = why
