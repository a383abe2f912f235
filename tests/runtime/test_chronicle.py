"""A second after the other: what happened is kept, what is news is told, and a bound is a bound."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from meshproxy.runtime.chronicle import Chronicle, next_second
from meshproxy.telemetry.denials import Refused
from meshproxy.telemetry.facts import Facts
from meshproxy.telemetry.flows import Edge, Point
from tests.runtime.conftest import MOMENT, WallClock

if TYPE_CHECKING:
    from trio.testing import MockClock

EDGE = Edge("destination", "/web", "/api", "api", "http")
CALM = Facts("serving", id="spiffe://mesh.test/api", open_connections=2)
NOW = MOMENT.timestamp()


class Listener:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def send(self, part: bytes) -> None:
        for event in part.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.split("\n") if line)
            if "event" in fields:
                self.events.append((fields["event"], json.loads(fields["data"])))


async def test_each_second_is_kept_and_told(nursery: trio.Nursery) -> None:
    chronicle, listener = Chronicle(WallClock()), Listener()
    await chronicle.second(NOW + 1, [], CALM, 0.0)
    nursery.start_soon(chronicle.feed.pour, listener.send, None, lambda: b"{}")
    await trio.testing.wait_all_tasks_blocked()
    await chronicle.second(NOW + 2, [(EDGE, Point(3))], CALM, 0.25)
    refusing = Facts("refusing", "it expired", id=CALM.id)
    await chronicle.second(NOW + 3, [], refusing, 0.0)
    await trio.testing.wait_all_tasks_blocked()
    assert [kind for kind, _ in listener.events] == ["state", "tick", "marker", "state", "tick"]
    _, first, marker, state, second = (data for _, data in listener.events)
    assert first["edges"][0]["point"][:2] == [NOW + 1, 3]
    assert first["gauges"] == {"open_connections": 2.0, "loop_lag": 0.25}
    assert (marker["kind"], marker["text"]) == ("refusing", "refusing: it expired")
    assert (state["state"], state["reason"], state["since"]) == ("refusing", "it expired", NOW + 3)
    assert second["edges"] == []
    assert chronicle.since == NOW + 3
    assert [each.kind for each in chronicle.series.markers] == ["start", "refusing"]
    nursery.cancel_scope.cancel()


async def test_what_nobody_hears_costs_nothing_and_is_a_gap_to_who_comes_back() -> None:
    chronicle = Chronicle(WallClock())
    await chronicle.second(NOW + 1, [], CALM, 0.0)
    told = len(chronicle.feed._events)
    await chronicle.second(NOW + 2, [], CALM, 0.0)
    assert len(chronicle.feed._events) == told, "nothing happened, so nothing is missed"
    await chronicle.second(NOW + 3, [(EDGE, Point(3))], CALM, 0.0)
    assert len(chronicle.feed._events) == 0


async def test_refusals_are_rows_and_only_so_many_wait_to_be_explained(nursery: trio.Nursery) -> None:
    chronicle, listener = Chronicle(WallClock()), Listener()
    nursery.start_soon(chronicle.feed.pour, listener.send, None, lambda: b"{}")
    await trio.testing.wait_all_tasks_blocked()
    rows = [Refused("api", "deny", f"spiffe://mesh.test/{n}", "GET /x", "path", 1, NOW, NOW) for n in range(64)]
    chronicle.refuse(rows, 5)
    assert len(chronicle.denials.newest(100)[0]) == 64
    assert chronicle.denials.beyond == 5
    assert chronicle.refused.statistics().current_buffer_used == 16
    nursery.cancel_scope.cancel()


async def test_seconds_are_those_of_the_wall_clock(autojump_clock: MockClock) -> None:
    wall = WallClock()
    await trio.sleep(0.3)
    assert await next_second(wall) == NOW + 1
    assert round(await next_second(wall), 6) == NOW + 2


async def test_a_second_of_many_edges_holds_up_nobody() -> None:
    """Written a few at a time: what is due meanwhile has its turn, and is told of no second that is half there."""
    chronicle = Chronicle(WallClock())
    edges = [Edge("destination", f"/caller/{number}", "/api", "api", "http") for number in range(256)]
    seen: list[tuple[int, float]] = []

    async def look() -> None:
        while True:
            seen.append((sum(bool(len(track.rings["1s"])) for track in chronicle.series), chronicle.series.latest))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await chronicle.second(NOW + 1, [(edge, Point(1)) for edge in edges], CALM, 0.0)
        nursery.cancel_scope.cancel()
    written = [count for count, _ in seen]
    assert max(b - a for a, b in pairwise(written)) <= 64  # trio dices who comes first: two turns may meet
    assert all(latest < NOW + 1 for count, latest in seen if count < 256)
    assert (len(chronicle.series), chronicle.series.latest) == (256, NOW + 1)
