"""What holds the loop up is measured once, and told the same everywhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from meshproxy.limits.flight import Flight
from meshproxy.runtime.pressure import Pressure
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.engine import make_readiness
from tests.hearing import listening_log

if TYPE_CHECKING:
    from meshproxy.telemetry.families import Buckets

HELD_UP = 0.15  # seconds


def beyond(lag: Buckets, seconds: float) -> int:
    """How many looks were longer."""
    return sum(count for bound, count in zip((*lag.bounds, float("inf")), lag.counts, strict=True) if bound > seconds)


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
