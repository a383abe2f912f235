"""Five times the callers that can be served, and rude ones: the excess is refused, the rest is served as if alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.closed_loop import Turn
from tests.scenarios.programs import free_port
from tests.scenarios.stage import Scales, inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

SUSTAINABLE = 64  # callers; more of them get no more served, on any machine this was tried on
SECONDS = 60
RECOVERY = 5  # seconds


def is_unbounded(api: Sidecar) -> bool:
    load = api.status().load
    assert load is not None
    return (load.turned_away_for, load.most_in_flight) == ("", None)


@pytest.mark.long
def test_overload_refuses_the_excess_and_serves_the_rest(stage: Stage) -> None:
    port = free_port()
    api = stage.sidecar("api", '[runtime]\nmax_lag = "10ms"\n' + inbound(forward=f"127.0.0.1:{port}", protocol="http"))
    web = stage.identity("/web").directory
    turns = [(SUSTAINABLE, 10), (5 * SUSTAINABLE, SECONDS), (SUSTAINABLE, 2 * RECOVERY)]
    script = Path(__file__).with_name("closed_loop.py")
    arguments = [script, api.address("api"), web, port, *(f"{callers}:{seconds}" for callers, seconds in turns)]
    if (cores := os.cpu_count() or 1) > 1:
        os.sched_setaffinity(api.process.pid, {0})  # so that it is the sidecar that has too much to do
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if cores > 1:
            os.sched_setaffinity(process.pid, set(range(1, cores)))
        assert process.stdout is not None
        told = iter(process.stdout)
        alone = Turn(**json.loads(next(told)))
        scales = Scales(api)
        crowd = Turn(**json.loads(next(told)))
        scales.put_away()
        after = Turn(**json.loads(next(told)))
    for turn in (alone, crowd, after):
        p50, _, p99 = turn.latencies
        print(f"{turn.callers} callers: {turn.rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {turn.refused} refused; "
              f"goodput {turn.goodput / alone.goodput:.0%}")  # fmt: skip
    print(f"memory +{scales.growth / 2**20:.1f} MiB")

    assert [turn.wrong for turn in (alone, crowd, after)] == [0, 0, 0]
    assert crowd.refused > 0
    assert crowd.goodput >= 0.8 * alone.goodput
    # Before and after: a machine with other things to do is not as fast a minute later, and the slower of both counts.
    assert crowd.p99 <= 3 * max(alone.p99, after.p99)
    assert scales.growth < 40 << 20  # 256 connections more, and flat from then on
    recovered = after.by_second[RECOVERY - 1 : -1]
    assert sum(recovered) / len(recovered) * after.goodput / after.rate >= 0.8 * alone.goodput
    poll(lambda: is_unbounded(api), "nobody is refused any more", within=RECOVERY)
    assert api.get("/ready").status == 200
    listener = api.status().listeners[0]
    assert listener.limits_reached["overload"] >= crowd.refused
    assert api.metric("meshproxy_loop_lag_seconds") < 1
