"""What holds the loop up is measured once, and told the same everywhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.limits.flight import FLOOR, Flight
from meshproxy.runtime.pressure import Pressure
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.busy import Busyness
from meshproxy.wire.engine import make_readiness
from meshproxy.wire.trio_readiness import TrioReadiness
from tests.hearing import listening_log

if TYPE_CHECKING:
    from trio.testing import MockClock

    from meshproxy.telemetry.families import Buckets

HELD_UP = 0.15  # seconds


def beyond(lag: Buckets, seconds: float) -> int:
    """How many looks were longer."""
    return sum(count for bound, count in zip((*lag.bounds, float("inf")), lag.counts, strict=True) if bound > seconds)


class Watched:
    """A pressure that is told how busy the loop is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
        log, _ = listening_log()
        recorder = Recorder(Metrics(), log, lambda _line: None, trio.current_time)
        self.share = share
        monkeypatch.setattr(Busyness, "share", lambda _busyness: self.share)
        self.engine, self.flight = TrioReadiness(), Flight(max_lag=0.1)
        self.pressure = Pressure(self.flight, self.engine, recorder)
        self._seen = recorder.metrics.loop_lag.labels()

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.engine.run)
        nursery.start_soon(self.pressure.run)
        await self.looks(1)  # so that the first quarter of a second is a whole one

    async def looks(self, seconds: float) -> int:
        """How often somebody looks within so many seconds."""
        before = sum(self._seen.counts)
        await trio.sleep(seconds)
        return sum(self._seen.counts) - before


@pytest.mark.parametrize(("share", "looks"), [(0.0, 4), (0.1, 4), (0.11, 20), (1.0, 20)])
async def test_the_lag_is_looked_at_seldom_while_there_is_nothing_to_be_late_for(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, share: float, looks: int
) -> None:
    watched = Watched(monkeypatch, share)
    await watched.start(nursery)
    assert await watched.looks(10) == pytest.approx(10 * looks, abs=1)
    nursery.cancel_scope.cancel()


async def test_the_lag_is_looked_at_closely_as_soon_as_there_is_work_and_while_there_is_a_bound(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, 0.0)
    await watched.start(nursery)
    assert await watched.looks(2) == pytest.approx(8, abs=1)
    watched.share = 0.5
    assert await watched.looks(2) == pytest.approx(40, abs=5)  # a quarter of a second late at most
    watched.share = 0.0
    watched.flight.most, watched.flight.is_bounded = FLOOR, True
    assert await watched.looks(0.75) == pytest.approx(15, abs=1)
    nursery.cancel_scope.cancel()


async def test_what_an_idle_process_does_too_long_at_once_is_seen_between_two_looks(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, 0.0)
    await watched.start(nursery)
    await trio.sleep(0.1)  # the last look was as long ago, and the next is not due yet
    assert watched.pressure.lag < 0.01
    time.sleep(0.05)  # noqa: ASYNC251 - this is it; to trio's clock it is no time at all
    await trio.lowlevel.checkpoint()
    assert watched.pressure.lag >= 0.05
    await trio.sleep(0.25)
    assert await watched.looks(0.2) >= 4  # and what follows is looked at closely
    nursery.cancel_scope.cancel()


async def test_what_holds_the_loop_up_is_in_the_histogram_the_gauge_and_the_events(nursery: trio.Nursery) -> None:
    log, _ = listening_log()
    engine, numbers = make_readiness(), Recorder(Metrics(), log, lambda _line: None, trio.current_time)
    pressure = Pressure(Flight(), engine, numbers)
    lag = numbers.metrics.loop_lag.labels()
    await nursery.start(engine.run)
    nursery.start_soon(pressure.run)
    while sum(lag.counts) < 2:  # noqa: ASYNC110 - looks wake nobody
        await trio.sleep(0.01)
    looks = beyond(lag, 0.1)
    time.sleep(HELD_UP)  # noqa: ASYNC251 - this is it: nobody has his turn
    while beyond(lag, 0.1) == looks:  # noqa: ASYNC110 - as above
        await trio.sleep(0.01)
    pressure.measure()
    held_up = numbers.metrics.unread_lag.value
    assert HELD_UP / 2 < held_up == pressure.lag == pressure.status().lag_seconds
    assert lag.total >= held_up
    nursery.cancel_scope.cancel()
