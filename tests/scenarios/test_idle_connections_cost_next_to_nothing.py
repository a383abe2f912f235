"""Two thousand callers who stay and ask nothing: little memory each, no work, and who asks is served as ever.

`make soak` plays it with ten thousand, as does whoever says so: MESHPROXY_TEST_IDLE=10000.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.apart import Slow, Steady, cpu_seconds, pin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

MANY = int(os.environ.get("MESHPROXY_TEST_IDLE", "2000"))
MOST = 80 << 10  # bytes of memory for each
PORTION = 1000
LOOK = 10  # seconds
PAUSE = 10  # seconds in which nobody asks for anything
# Share of a core: 1.6 % with two thousand, 4 % with ten. A machine that is busy with other things makes the same work
# take twice as long; where a sidecar that has no connections takes more than half of it, what counts is that two
# thousand do not take as much again.
IDLE = 0.01 + MANY * 3e-6
LEAST = 5.0  # ms; a p99 of less is as good as before


def idling(api: Sidecar) -> float:
    """What share of a core it takes while nobody asks for anything."""
    used = cpu_seconds(api.process.pid)
    time.sleep(PAUSE)
    return (cpu_seconds(api.process.pid) - used) / PAUSE


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_idle_ones(stage: Stage, protocol: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY + 200:
        pytest.skip(f"needs {2 * MANY + 200} open files, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free_port()
    more = f"max_connections = {MANY + 200}\nmax_connections_per_peer = {MANY + 200}"
    api = stage.sidecar("api", inbound(forward=f"127.0.0.1:{port}", protocol=protocol, more=more))
    pin(api.process.pid, loads=False)
    web = stage.identity("/web").directory
    alone = idling(api)
    crew = stage.keep(Steady(api, web, port, callers=20, rates="200+0"))
    before = crew.look(LOOK)
    weight = api.resident
    with contextlib.ExitStack() as idle:
        for begun in range(0, MANY, PORTION):
            idle.enter_context(Slow(api.address("api"), web, "idle", min(PORTION, MANY - begun)))
            crew.look(1)  # the service answers while somebody looks, and has them wait in a queue until then
        crew.look(1)  # so that what is put off until there is time is done
        each = (api.resident - weight) / MANY
        used = idling(api)
        assert api.status().listeners[0].open == MANY + 20
        crowded = crew.look(LOOK)
    poll(lambda: api.status().listeners[0].open == 20, "all let go")
    after = crew.look(LOOK)
    quiet = max(before.p99, after.p99, LEAST)
    print(f"\n{MANY} over {protocol}: {each / 1024:.1f} KiB each, {used:.2%} of a core, {alone:.2%} without them; p99 "
          f"{crowded.p99 / quiet:.1f} x quiet\nbefore: {before}\nheld:   {crowded}\nafter:  {after}")  # fmt: skip

    assert each <= MOST
    assert used < max(IDLE, 2 * alone)
    assert (crowded.refused, crowded.cut, crowded.wrong) == (0, 0, 0)
    assert crowded.p99 < 2 * quiet
