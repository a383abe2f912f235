"""What a process is told of its own condition: how far behind it is, and how full its memory; and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshproxy.admin.status import LoadStatus
from meshproxy.inbound.accept import REMEDIES
from meshproxy.wire.busy import Busyness
from meshproxy.wire.lag import LagProbe
from meshproxy.wire.memory import Memory

if TYPE_CHECKING:
    from meshproxy.limits.flight import Flight
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.readiness import Readiness

_LOOK_EVERY: Final = 0.25  # seconds


class Pressure:
    """Looks at one process, and has its `flight` know."""

    def __init__(self, flight: Flight, engine: Readiness, recorder: Recorder) -> None:
        self._flight = flight
        self._recorder = recorder
        self._lag = recorder.metrics.loop_lag.labels()
        self._probe = LagProbe(engine, self._observe)
        self._memory = Memory()
        self._busyness = Busyness()
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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probe.run)
            while True:
                self._flight.saturation = self._busyness.share()
                self._flight.observe_memory(self._memory.share)
                self._tell()
                await trio.sleep(_LOOK_EVERY)

    def measure(self) -> None:
        """Bring the numbers of /metrics up to date."""
        metrics, flight = self._recorder.metrics, self._flight
        metrics.unread_lag.set(self._probe.longest)
        metrics.in_flight.set(flight.count)
        metrics.most_in_flight.set(flight.most)
        metrics.overloaded.set(flight.is_overloaded)

    def _observe(self, lag: float, now: float) -> None:
        self._lag.observe(lag)
        self._flight.observe(lag, now)

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
