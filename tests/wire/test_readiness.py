"""The readiness engines: both keep the same promises about waking, stopping early, forgetting and reused numbers."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire import engine as engines
from meshproxy.wire.epoll_readiness import BATCH, EpollReadiness
from meshproxy.wire.readiness import HANGUP, READ, WRITE, Readiness
from meshproxy.wire.trio_readiness import TrioReadiness
from tests.wire.conftest import SecondEpoll

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.wire.conftest import Wires


class Reader:
    """A handler that reads as a connection would, and remembers what it was told."""

    def __init__(self, engine: Readiness, sock: socket.socket) -> None:
        self.engine, self.sock = engine, sock
        self.seen: list[int] = []
        self.received = b""
        self.ended = False
        self.closed_gate = False  # back-pressure: stop before reading
        self.then: Callable[[], object] = lambda: None

    def __call__(self, events: int) -> bool:
        self.seen.append(events)
        if self.closed_gate:
            return False
        try:
            while True:
                data = self.sock.recv(4)
                if not data:
                    self.ended = True
                    return False
                self.received += data
        except BlockingIOError:
            return True
        finally:
            self.then()


async def settled() -> None:
    """Wait until the engine has nothing left to do; loopback bytes are in the other socket once `send` returned."""
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked(0.002)


async def test_a_handler_hears_of_bytes_and_of_the_end(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    reader = Reader(engine, near)
    engine.watch(near, reader)
    far.send(b"some bytes")
    await settled()
    assert reader.received == b"some bytes"
    far.close()
    await settled()
    assert reader.ended
    engine.forget(near)


async def test_what_is_left_for_afterwards_is_done_once_and_soon(engine: Readiness, wires: Wires) -> None:
    pairs = [wires.unix() for _ in range(3)]
    told: list[str] = []
    readers = [Reader(engine, near) for near, _ in pairs]
    for reader in readers:
        reader.then = lambda: engine.afterwards(lambda: told.append("read"))
        engine.watch(reader.sock, reader)
    for _, far in pairs:
        far.send(b"x")
    await settled()
    assert told == ["read"] * 3
    engine.afterwards(lambda: told.append("a task's"))
    await settled()
    assert told == ["read"] * 3 + ["a task's"]
    for near, _ in pairs:
        engine.forget(near)


async def test_what_is_left_for_afterwards_comes_behind_all_of_a_batch(wires: Wires, nursery: trio.Nursery) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    pairs, told = [wires.unix() for _ in range(3)], []

    def handler(near: socket.socket) -> Callable[[int], bool]:
        def take(_events: int) -> bool:
            near.recv(10)
            told.append("event")
            if told == ["event"]:
                engine.afterwards(lambda: told.append("afterwards"))
            return True

        return take

    for near, far in pairs:
        engine.watch(near, handler(near))
        far.send(b"x")
    await settled()
    assert told == ["event", "event", "event", "afterwards"]
    for near, _ in pairs:
        engine.forget(near)


async def test_bytes_that_came_before_watching_are_told(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    far.send(b"early")
    reader = Reader(engine, near)
    engine.watch(near, reader)
    await settled()
    assert reader.received == b"early"
    engine.forget(near)


async def test_a_handler_that_stopped_early_is_left_alone_until_resumed(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    reader = Reader(engine, near)
    reader.closed_gate = True
    engine.watch(near, reader)
    far.send(b"waits")
    await settled()
    assert (len(reader.seen), reader.received) == (1, b"")
    reader.closed_gate = False
    engine.resume(near)  # from a task, while the engine sleeps in the kernel
    await settled()
    assert reader.received == b"waits"
    assert reader.seen[1] == 0
    far.send(b", then goes on")
    await settled()
    assert reader.received == b"waits, then goes on"
    engine.forget(near)


async def test_a_resumed_handler_that_stops_again_stays_parked(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    reader = Reader(engine, near)
    reader.closed_gate = True
    engine.watch(near, reader)
    far.send(b"x")
    await settled()
    for turn in range(3):
        engine.resume(near)
        await settled()
        assert len(reader.seen) == turn + 2
    reader.closed_gate = False
    engine.resume(near)
    await settled()
    assert reader.received == b"x"
    engine.forget(near)


async def test_a_handler_that_resumes_itself_does_not_starve_the_tasks_of_trio(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    turns = 0

    def greedy(_events: int) -> bool:
        nonlocal turns
        turns += 1
        engine.resume(near)
        return False

    engine.watch(near, greedy)
    far.send(b"x")
    with trio.fail_after(5):
        for _ in range(100):
            await trio.lowlevel.checkpoint()
    assert turns > 10
    engine.forget(near)
    after = turns
    await settled()
    assert turns <= after + 1


async def _crowd(wires: Wires, engine: Readiness, others: int) -> set[bool]:
    """What the engine says of the crowd while one handler goes on and on, and so many others have news."""
    busy, talker = wires.unix()
    said: set[bool] = set()

    def goes_on(events: int) -> bool:
        del events
        said.add(engine.crowded)
        engine.resume(busy)
        return False

    engine.watch(busy, goes_on)
    talker.send(b"bulk")
    pairs = [wires.unix() for _ in range(others)]
    for near, _ in pairs:
        engine.watch(near, Reader(engine, near))
    for _ in range(15):
        for _, far in pairs:
            far.send(b"small")
        await trio.sleep(0.01)
    for near in (busy, *(near for near, _ in pairs)):
        engine.forget(near)
    return said


async def test_a_crowd_is_told_of_while_it_lasts(wires: Wires, nursery: trio.Nursery) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    assert await _crowd(wires, engine, others=0) == {False}
    assert await _crowd(wires, engine, others=4) == {False}  # as many as two streams of bulk have
    assert any(await _crowd(wires, engine, others=31))
    await trio.sleep(0.06)
    await _crowd(wires, engine, others=0)
    assert not engine.crowded


async def test_resuming_an_unwatched_socket_does_nothing(engine: Readiness, wires: Wires) -> None:
    near, _far = wires.unix()
    engine.resume(near)
    engine.forget(near)
    engine.forget(near)
    assert "watching=0 resumed=0" in repr(engine)


async def test_writing_is_told_only_while_armed(engine: Readiness, wires: Wires) -> None:
    near, far = wires.unix()
    while True:  # a full buffer, so that there is something to wait for
        try:
            near.send(bytes(65536))
        except BlockingIOError:
            break
    told: list[int] = []

    def handler(events: int) -> bool:
        told.append(events & WRITE)
        if events & WRITE:
            engine.disarm_write(near)
        return True

    def drain() -> None:
        while True:
            try:
                far.recv(1 << 20)
            except BlockingIOError:
                return

    engine.watch(near, handler)
    await settled()
    assert WRITE not in told
    drain()
    await settled()
    assert WRITE not in told  # not armed: a freed buffer is no news
    engine.arm_write(near)
    await settled()
    assert told.count(WRITE) == 1
    engine.forget(near)


async def test_forget_within_a_batch_silences_the_other_sockets_event(engine: Readiness, wires: Wires) -> None:
    """Both become readable at once; whoever is called first forgets the other, which must then hear nothing."""
    pairs = [wires.unix(), wires.unix()]
    called: list[socket.socket] = []

    def watch(sock: socket.socket, other: socket.socket) -> None:
        def handler(_events: int) -> bool:
            called.append(sock)
            sock.recv(1)
            engine.forget(other)
            engine.resume(other)  # no-op by now
            return True

        engine.watch(sock, handler)

    watch(pairs[0][0], pairs[1][0])
    watch(pairs[1][0], pairs[0][0])
    for _, far in pairs:
        far.send(b"x")
    await settled()
    assert len(called) == 1
    engine.forget(called[0])


async def test_a_resumed_handler_forgotten_in_the_same_round_is_not_called(engine: Readiness, wires: Wires) -> None:
    (first, _), (second, _) = wires.unix(), wires.unix()
    called: list[socket.socket] = []

    def handler_for(sock: socket.socket, other: socket.socket) -> Callable[[int], bool]:
        def handler(_events: int) -> bool:
            called.append(sock)
            engine.forget(other)
            return True

        return handler

    engine.watch(first, handler_for(first, second))
    engine.watch(second, handler_for(second, first))
    engine.resume(first)
    engine.resume(second)
    await settled()
    assert len(called) == 1
    engine.forget(called[0])


async def test_the_new_owner_of_a_reused_number_hears_only_its_own_events(engine: Readiness, wires: Wires) -> None:
    """The old socket is forgotten with bytes and a resume pending, closed, and its number taken at once."""
    for _ in range(20):
        old, old_far = wires.unix()
        stale = Reader(engine, old)
        engine.watch(old, stale)
        old_far.send(b"for the old one")
        engine.resume(old)
        number = old.fileno()
        engine.forget(old)
        old.close()
        near, far = wires.unix()
        if near.fileno() != number:  # the kernel gives the lowest free number, which may be another's
            os.dup2(near.fileno(), number, inheritable=False)
            near.close()
            near = socket.socket(fileno=number)
            near.setblocking(False)
        fresh = Reader(engine, near)
        engine.watch(near, fresh)
        await settled()
        assert stale.seen == []
        assert fresh.received == b""
        far.send(b"new")
        await settled()
        assert fresh.received == b"new"
        engine.forget(near)
        near.close()


async def test_more_sockets_than_a_batch_are_all_served(engine: Readiness, wires: Wires) -> None:
    pairs = [wires.unix() for _ in range(BATCH + 10)]
    readers = [Reader(engine, near) for near, _ in pairs]
    for reader, (near, far) in zip(readers, pairs, strict=True):
        engine.watch(near, reader)
        far.send(b"hello")
    await settled()
    assert {reader.received for reader in readers} == {b"hello"}
    for near, _ in pairs:
        engine.forget(near)


async def test_a_hangup_is_hinted_together_with_the_last_bytes(wires: Wires, nursery: trio.Nursery) -> None:
    """Data and FIN may share one edge: without the hint a short read would be taken for all there is."""
    engine = EpollReadiness()
    near, far = wires.tcp()
    far.send(b"last")
    far.shutdown(socket.SHUT_WR)
    reader = Reader(engine, near)
    engine.watch(near, reader)
    await nursery.start(engine.run)
    await settled()
    assert reader.seen[0] & HANGUP
    assert reader.seen[0] & READ
    assert (reader.received, reader.ended) == (b"last", True)
    engine.forget(near)


@pytest.mark.parametrize("kind", [EpollReadiness, SecondEpoll, TrioReadiness])
async def test_letting_go_is_possible_after_the_engine_has_ended(kind: Callable[[], Readiness], wires: Wires) -> None:
    """Engine and connections are cancelled together; whichever ends first, the owner's `forget` must not raise."""
    engine = kind()
    near, _far = wires.unix()
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        engine.watch(near, Reader(engine, near))
        engine.resume(near)
        nursery.cancel_scope.cancel()
    engine.resume(near)
    engine.forget(near)
    assert "watching=0 resumed=0" in repr(engine)


async def test_watching_without_a_running_engine_is_refused(wires: Wires) -> None:
    near, _far = wires.unix()
    with pytest.raises(RuntimeError, match="not running"):
        TrioReadiness().watch(near, lambda _events: True)


@pytest.mark.parametrize(("has_epoll", "kind"), [(True, EpollReadiness), (False, TrioReadiness)])
def test_the_best_engine_of_the_system_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    has_epoll: bool,  # noqa: FBT001 - a row of the table
    kind: type,
) -> None:
    if not has_epoll:
        monkeypatch.delattr(select, "epoll")
    made = engines.make_readiness()
    assert isinstance(made, kind)
    if isinstance(made, EpollReadiness):
        made._epoll.close()


async def test_a_handler_that_reads_on_when_it_may_write_again_is_told_of_what_comes_next(
    engine: Readiness, wires: Wires
) -> None:
    """It stopped reading while something waited to be sent; that being sent, it went on by itself."""
    near, far = wires.tcp(small=True)
    heard = bytearray()
    blocked = True
    arrived = trio.Event()

    def handle(events: int) -> bool:
        nonlocal blocked
        if events & WRITE:
            blocked = False
            engine.disarm_write(near)
        if blocked:
            return False
        with contextlib.suppress(BlockingIOError):
            while data := near.recv(100):
                heard.extend(data)
        if heard:
            arrived.set()
        return True

    engine.watch(near, handle)
    far.send(b"one")
    await trio.testing.wait_all_tasks_blocked(0.01)
    engine.arm_write(near)
    with trio.fail_after(5):
        await arrived.wait()
        arrived = trio.Event()
        far.send(b"two")
        await arrived.wait()
    engine.forget(near)
    assert heard == b"onetwo"
