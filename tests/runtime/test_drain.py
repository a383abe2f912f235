"""The order of an ending: who may still come, who is served to the end, who is cut, and what is closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from meshproxy.inbound.live import Live
from meshproxy.inbound.unattended import UnattendedConnections
from meshproxy.runtime.drain import Ending, serve_until_drained
from meshproxy.runtime.stations import Equipment, Station, Stations
from meshproxy.settings.schema import RuntimeSettings

if TYPE_CHECKING:
    from trio.testing import MockClock

    from meshproxy.inbound.accept import Acceptor, Handler
    from meshproxy.settings.schema import Inbound


@dataclass
class Stand:
    """An acceptor whose callers come when the test says, each staying for some seconds."""

    name: str
    story: list[str]
    waiting: list[float] = field(default_factory=list)  # in the queue when accepting stops
    connections: trio.Nursery | None = None
    accepting: bool = False
    closed: bool = False
    unattended: UnattendedConnections = field(default_factory=UnattendedConnections)

    async def run(self, connections: trio.Nursery) -> None:
        self.connections, self.accepting = connections, True
        try:
            await trio.sleep_forever()
        finally:
            self.accepting = False

    def arrive(self, stay: float) -> None:
        assert self.connections is not None
        assert self.accepting
        self.connections.start_soon(self._attend, stay)

    async def _attend(self, stay: float) -> None:
        try:
            await trio.sleep(stay)
        except trio.Cancelled:
            self.story.append(f"{self.name} cut")
            raise
        self.story.append(f"{self.name} served")

    def take_waiting(self, connections: trio.Nursery) -> None:
        for stay in self.waiting:
            connections.start_soon(self._attend, stay)
        self.waiting.clear()

    def close(self, *, handed_over: bool = False) -> None:  # noqa: ARG002 - the acceptor's signature
        if not self.closed:
            self.story.append(f"{self.name} closed at {trio.current_time():g}")
        self.closed = True


class Stands:
    """Stations with stands for acceptors."""

    def __init__(self, inbound: Stand, outbound: Stand) -> None:
        self._stations = {"inbound": _station(inbound), "outbound": _station(outbound)}

    @property
    def all(self) -> list[Station]:
        return list(self._stations.values())

    def of(self, direction: str) -> list[Station]:
        return [self._stations[direction]]

    async def run(self, direction: str, nursery: trio.Nursery) -> None:
        await nursery.start(self._stations[direction].run)

    def close_all(self) -> None:
        for station in self.all:
            station.acceptor.close()


def _station(stand: Stand) -> Station:
    equipment = Equipment(cast("Handler", None), Live(), None, lambda: None)
    return Station(cast("Inbound", None), cast("Acceptor", stand), equipment)


class House:
    """One inbound and one outbound stand, drained at the test's word."""

    def __init__(self, *, delay: float, timeout: float) -> None:
        self.story: list[str] = []
        self.inbound, self.outbound = Stand("in", self.story), Stand("out", self.story)
        self.stopping = trio.Event()
        self.settings = RuntimeSettings(drain_timeout=timeout, drain_delay=delay)
        self.nothing_cut: bool | None = None
        self.ended = trio.Event()

    async def run(self) -> None:
        stands = cast("Stations", Stands(self.inbound, self.outbound))

        def begin() -> Ending:
            self.story.append("draining")
            return Ending(self.settings)

        try:
            self.nothing_cut = await serve_until_drained(stands, self.stopping, begin)
        finally:
            self.ended.set()

    @property
    def news(self) -> list[str]:
        """The story without the closes that only repeat."""
        return list(dict.fromkeys(each.rpartition(" at ")[0] or each for each in self.story))


@pytest.fixture
async def house(nursery: trio.Nursery, request: pytest.FixtureRequest) -> House:
    made = House(**getattr(request, "param", {"delay": 0.0, "timeout": 30.0}))
    nursery.start_soon(made.run)
    while not (made.inbound.accepting and made.outbound.accepting):
        await trio.lowlevel.checkpoint()
    return made


async def test_an_idle_house_ends_at_once(house: House, autojump_clock: MockClock) -> None:
    house.stopping.set()
    await house.ended.wait()
    assert trio.current_time() == 0
    assert house.news == ["draining", "in closed", "out closed"]
    assert house.nothing_cut is True


async def test_nothing_ends_before_it_is_told(house: House, autojump_clock: MockClock) -> None:
    await trio.sleep(1000)
    assert house.story == []
    house.stopping.set()
    await house.ended.wait()


@pytest.mark.parametrize("house", [{"delay": 5.0, "timeout": 30.0}], indirect=True)
async def test_callers_are_still_taken_during_the_delay(house: House, autojump_clock: MockClock) -> None:
    """Load balancers are slow to hear that we are not ready any more."""
    house.stopping.set()
    await trio.sleep(4)
    assert house.story == ["draining"]
    house.inbound.arrive(3)
    house.inbound.waiting.append(1)  # in the queue at the very end of the delay
    await house.ended.wait()
    assert house.story[:4] == ["draining", "in closed at 5", "in served", "in served"]
    assert house.nothing_cut is True


async def test_outbound_listens_until_inbound_is_idle(house: House, autojump_clock: MockClock) -> None:
    """A request being served may still need another service."""
    house.inbound.arrive(10)
    house.stopping.set()
    await trio.sleep(5)
    house.outbound.arrive(8)  # asserts that outbound still accepts
    with pytest.raises(AssertionError):
        house.inbound.arrive(1)
    await house.ended.wait()
    assert trio.current_time() == 13
    assert [each for each in house.story if "closed" in each][:2] == ["in closed at 0", "out closed at 10"]
    assert [each for each in house.story if "served" in each] == ["in served", "out served"]
    assert house.nothing_cut is True


async def test_what_is_left_at_the_timeout_is_cut(house: House, autojump_clock: MockClock) -> None:
    house.inbound.arrive(10)
    house.inbound.arrive(100)
    house.outbound.arrive(100)
    house.stopping.set()
    await house.ended.wait()
    assert trio.current_time() == 30
    assert sorted(each for each in house.story if "closed" not in each) == [
        "draining",
        "in cut",
        "in served",
        "out cut",
    ]
    assert house.nothing_cut is False


async def test_the_timeout_counts_for_both_directions_together(house: House, autojump_clock: MockClock) -> None:
    house.inbound.arrive(20)
    house.stopping.set()
    await trio.sleep(19)
    house.outbound.arrive(1000)
    await house.ended.wait()
    assert trio.current_time() == 30
    assert house.nothing_cut is False


@pytest.mark.parametrize("house", [{"delay": 2.0, "timeout": 0.0}], indirect=True)
async def test_no_timeout_cuts_right_after_the_delay(house: House, autojump_clock: MockClock) -> None:
    house.inbound.arrive(1)
    house.inbound.arrive(9)
    house.stopping.set()
    await house.ended.wait()
    assert trio.current_time() == 2
    assert house.nothing_cut is False


async def test_being_cancelled_closes_every_listener(autojump_clock: MockClock) -> None:
    house = House(delay=0, timeout=30)
    with trio.move_on_after(3):
        await house.run()
    assert sorted(house.story) == ["in closed at 3", "out closed at 3"]
    assert house.nothing_cut is None
