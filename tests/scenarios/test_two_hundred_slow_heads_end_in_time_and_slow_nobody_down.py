"""Two hundred callers who say a byte of a head each second: 408 for each at `head_timeout`, others notice nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.scenarios.apart import Slow, Steady, pin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

MANY = 200
HEAD_TIMEOUT = 10  # seconds, from its first byte to its last; the default
LEAST = 5.0  # ms; a p99 of less is as good as quiet


def test_slow_heads(stage: Stage) -> None:
    port = free_port()
    api = stage.sidecar("api", inbound(forward=f"127.0.0.1:{port}", protocol="http"))
    pin(api.process.pid, loads=False)
    web = stage.identity("/web").directory
    crew = stage.keep(Steady(api, web, port, callers=20, rates="200+0"))
    before = crew.look(HEAD_TIMEOUT)
    with Slow(api.address("api"), web, "head", MANY) as slow:
        slow.begin()
        crowded = crew.look(HEAD_TIMEOUT)
        fates = slow.fates()
    after = crew.look(HEAD_TIMEOUT)
    ended = sorted(fate.ended_after or 0.0 for fate in fates)
    quiet = max(before.p99, after.p99, LEAST)
    print(f"\nall ended after {ended[0]:.1f} to {ended[-1]:.1f} s; p99 {crowded.p99 / quiet:.1f} x quiet"
          f"\nbefore: {before}\nslow:   {crowded}\nafter:  {after}")  # fmt: skip

    assert Counter(fate.status for fate in fates) == {408: MANY}
    assert ended[0] >= HEAD_TIMEOUT - 0.5
    assert ended[-1] <= HEAD_TIMEOUT + 1
    assert (crowded.refused, crowded.cut, crowded.wrong) == (0, 0, 0)
    assert crowded.p99 < 2 * quiet
    assert api.status().listeners[0].limits_reached["head_timeout"] == MANY
