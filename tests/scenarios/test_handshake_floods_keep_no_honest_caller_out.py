"""Thousands who connect and do not prove who they are cost honest callers little, and leave nothing behind.

There is room for 512 strangers at a time (`max_handshakes`). Whole ClientHellos are the dear ones: each is answered at
the cost of a millisecond, and 200 of them come each second.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.apart import Flood, Steady, cpu_seconds, pin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

SOCKETS = 2000
QUIET = 10  # seconds
FLOOD = 20  # seconds; it is as bad after five, when all who may wait do, as after a minute


@pytest.fixture(autouse=True)
def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < SOCKETS + 200:
        pytest.skip("needs more descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.parametrize(
    ("kind", "per_second", "seconds"),
    [("silent", 1000, QUIET), ("half", 1000, QUIET), ("garbage", 1000, QUIET), ("hello", 200, FLOOD)],
)
def test_a_flood_keeps_no_honest_caller_out(stage: Stage, kind: str, per_second: int, seconds: int) -> None:
    port = free_port()
    api = stage.sidecar("api", inbound(forward=f"127.0.0.1:{port}", protocol="http"))
    pin(api.process.pid, loads=False)
    crew = stage.keep(Steady(api, stage.identity("/web").directory, port, callers=20, rates="200+20"))
    quiet = crew.look(QUIET)
    tasks, weight = api.metric("meshproxy_tasks"), api.resident
    with Flood(api.address("api"), kind, sockets=SOCKETS, per_second=per_second) as flood:
        used = cpu_seconds(api.process.pid)
        looks = [crew.look(seconds)]
        used = (cpu_seconds(api.process.pid) - used) / seconds
        # The best of three: a machine that is busy with other things makes any of them worse, and none better.
        while len(looks) < 3 and looks[-1].new_p99 > 5 * quiet.new_p99:
            looks.append(crew.look(seconds))
        crowded = looks[-1]
        assert api.get("/ready").status == 200
        assert api.status().listeners[0].open <= 512 + 20 + 10
        grown = api.resident - weight
        opened = flood.opened()
    print(f"\n{kind}, {opened} opened, {used:.0%} of a core, memory +{grown / 2**20:.1f} MiB; a new connection's p99 "
          f"{crowded.new_p99 / quiet.new_p99:.1f} x quiet\nquiet: {quiet}\nflood: {crowded}")  # fmt: skip

    assert opened >= SOCKETS
    for look in looks:
        assert (look.refused, look.cut, look.wrong) == (0, 0, 0)
        assert look.served >= 0.8 * look.due >= 0.8 * 0.8 * 200 * seconds
    assert crowded.new_p99 <= 5 * quiet.new_p99
    assert grown < 64 << 20
    poll(lambda: api.status().listeners[0].open == 20, "all let go")
    assert api.metric("meshproxy_tasks") <= tasks + 10
    limits = api.status().listeners[0].limits_reached
    assert kind == "garbage" or limits.get("max_handshakes", 0) > 0
