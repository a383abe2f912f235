"""A coroutine in callbacks of the engine: what it may wait for there, how it comes to a task, how it is ended."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.fiber import Fiber, Signal, in_task, interruption, readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator

    from meshproxy.wire.readiness import Readiness


class Known:
    """A keeper."""

    def __init__(self) -> None:
        self.fibers: set[Fiber] = set()
        self.add, self.discard = self.fibers.add, self.fibers.discard


class House:
    """An engine, and a nursery for those that come to a task."""

    def __init__(self, engine: Readiness, nursery: trio.Nursery) -> None:
        self.engine = engine
        self.nursery = nursery
        self.known = Known()
        self.said: list[str] = []

    def begin(self, coroutine: Coroutine[object, None, None]) -> Fiber:
        return Fiber(self.engine, self.nursery, self.known, coroutine)

    @property
    def tasks(self) -> int:
        return len(self.nursery.child_tasks)

    async def settle(self) -> None:
        """Let everybody do what can be done now."""
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def house(engine: Readiness) -> AsyncIterator[House]:
    async with trio.open_nursery() as own:
        yield House(engine, own)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        yield here, there


async def test_without_a_wait_it_needs_no_task(house: House) -> None:
    async def work() -> None:
        house.said.append(f"{house.tasks} tasks")

    fiber = house.begin(work())
    assert house.said == [], "it begins behind the batch, not where it is made"
    assert house.known.fibers == {fiber}
    await house.settle()
    assert house.said == ["0 tasks"]
    assert house.known.fibers == set()
    assert repr(fiber) == "<Fiber alone=False due=False>"
    fiber.wake()
    fiber.cut()
    await house.settle()
    assert house.said == ["0 tasks"], "what is over is over"


async def test_it_waits_for_sockets_without_a_task(house: House, pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair

    async def work() -> None:
        for _ in range(3):
            await readable(here)
            house.said.append(here.recv(10).decode())

    house.begin(work())
    for word in ("one", "two", "three"):
        await house.settle()
        assert house.tasks == 0
        there.send(word.encode())
    await house.settle()
    assert house.said == ["one", "two", "three"]
    assert house.known.fibers == set()


async def test_from_where_it_needs_one_it_goes_on_in_a_task(
    house: House, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair

    async def work() -> None:
        await readable(here)
        house.said.append(f"{house.tasks} tasks")
        await in_task()
        house.said.append(f"{house.tasks} task")
        await in_task()
        await trio.lowlevel.checkpoint()
        here.recv(10)
        await readable(here)
        house.said.append(here.recv(10).decode())

    house.begin(work())
    there.send(b"one")
    await house.settle()
    assert house.said == ["0 tasks", "1 task"]
    assert house.known.fibers == set(), "a nursery looks after it now"
    there.send(b"two")
    await house.settle()
    assert house.said[2:] == ["two"]
    assert house.tasks == 0


async def test_what_only_a_task_may_wait_for_is_an_error_and_not_a_hang(nursery: trio.Nursery) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    house = House(engine, nursery)

    async def work() -> None:
        try:
            await trio.sleep(1)
        except RuntimeError as error:
            house.said.append(str(error))
        try:
            await Foreign()
        except RuntimeError as error:
            house.said.append(str(error))

    before = house.tasks
    house.begin(work())
    await house.settle()
    assert house.said == [
        "must be called from async context",
        "a fiber waits for something of trio's: `in_task` must come before that",
    ]
    assert house.tasks == before


class Foreign:
    """Waits for something that nobody here knows."""

    def __await__(self) -> Generator[object, None, None]:
        yield object()


@pytest.mark.parametrize("comes_to_a_task", [False, True])
async def test_it_can_be_interrupted_where_it_waits_for_that_socket(
    house: House, pair: tuple[socket.socket, socket.socket], *, comes_to_a_task: bool
) -> None:
    here, there = pair
    interrupts: list[Callable[[], None]] = []

    async def work() -> None:
        interrupts.append(interruption(here))
        if comes_to_a_task:
            await in_task()
        try:
            await readable(here)
        except trio.ClosedResourceError:
            house.said.append("interrupted")
        await readable(here)
        house.said.append("read")

    house.begin(work())
    await house.settle()
    interrupts[0]()
    interrupts[0]()
    await house.settle()
    assert house.said == ["interrupted"]
    there.send(b"x")
    await house.settle()
    assert house.said == ["interrupted", "read"]
    interrupts[0]()
    await house.settle()


async def test_an_interruption_does_not_reach_another_wait(
    house: House, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, _ = pair
    signal, interrupts = Signal(), list[object]()

    async def work() -> None:
        interrupts.append(interruption(here))
        await signal.wait()
        house.said.append("signalled")

    fiber = house.begin(work())
    await house.settle()
    fiber.interrupt(here)
    await house.settle()
    assert house.said == []
    signal.set()
    await house.settle()
    assert house.said == ["signalled"]


async def test_news_that_came_before_an_interruption_count(
    house: House, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair

    async def work() -> None:
        await readable(here)
        house.said.append("read")

    fiber = house.begin(work())
    await house.settle()
    there.send(b"x")
    fiber.wake()
    fiber.interrupt(here)
    await house.settle()
    assert house.said == ["read"]


@pytest.mark.parametrize("waits_for", ["a socket", "a signal", "its beginning"])
async def test_one_that_is_cut_ends_as_a_cancelled_task(
    house: House, pair: tuple[socket.socket, socket.socket], waits_for: str
) -> None:
    here, _ = pair

    async def work() -> None:
        try:
            while True:
                await (readable(here) if waits_for == "a socket" else Signal().wait())
        except trio.Cancelled:
            house.said.append("cancelled")
            raise
        finally:
            house.said.append("cleaned up")

    async with trio.open_nursery() as house.nursery:
        fiber = house.begin(work())
        if waits_for != "its beginning":
            await house.settle()
        house.nursery.cancel_scope.cancel()
        fiber.cut()
        assert house.known.fibers == set()
    assert house.said == ["cancelled", "cleaned up"]
    house.engine.watch(here, lambda _: True)  # nobody watches it any more
    house.engine.forget(here)


async def test_a_signal_wakes_who_waits_for_it_fiber_or_task(house: House) -> None:
    signals = [Signal(), Signal(), Signal()]
    signals[2].set()

    async def work(name: str, signal: Signal, *, task: bool) -> None:
        if task:
            await in_task()
        await signal.wait()
        house.said.append(name)

    house.begin(work("fiber", signals[0], task=False))
    house.begin(work("task", signals[1], task=True))
    house.begin(work("at once", signals[2], task=False))
    await house.settle()
    assert house.said == ["at once"]
    assert [repr(signal) for signal in signals] == [
        "<Signal set=False awaited=True>",
        "<Signal set=False awaited=True>",
        "<Signal set=True awaited=False>",
    ]
    for signal in signals:
        signal.set()
        assert signal.is_set()
    assert house.said == ["at once"], "a signal may be given in the middle of a callback: nobody goes on in there"
    await house.settle()
    assert sorted(house.said[1:]) == ["fiber", "task"]


async def test_one_that_comes_to_a_task_while_it_waits_for_a_signal_hears_it_there(house: House) -> None:
    signal = Signal()

    async def work() -> None:
        await signal.wait()
        house.said.append(f"{house.tasks} task")

    fiber = house.begin(work())
    await house.settle()
    fiber.cut()  # but nobody cancels
    await house.settle()
    assert house.said == []
    signal.set()
    await house.settle()
    assert house.said == ["1 task"]


async def test_an_exception_ends_the_engine_and_no_fiber_is_left(nursery: trio.Nursery) -> None:
    engine, known = EpollReadiness(), Known()

    async def work() -> None:
        raise OSError("nobody has caught it")

    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="nobody has caught it")):
        async with trio.open_nursery() as own:
            await own.start(engine.run)
            Fiber(engine, nursery, known, work())
    assert known.fibers == set()
