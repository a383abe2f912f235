"""Taking connections on: the cap, one story per connection, and a wall between them."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from meshproxy.inbound.accept import Acceptor, Handler, Post, Stay, Taskless
from meshproxy.inbound.visit import Visit
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.ends import ConnectionEnd, End, Side
from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.fiber import Signal, in_task
from meshproxy.wire.listen import bind, bound_address
from meshproxy.wire.relay import Traffic
from meshproxy.wire.tls import receive
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshproxy.telemetry.access import AccessLine
    from meshproxy.wire.readiness import Readiness


class Door:
    """An acceptor on a real socket, what it told, and callers of it."""

    def __init__(self, nursery: trio.Nursery, engine: Readiness | None) -> None:
        self.nursery = nursery
        self.engine = engine
        self.log, self.heard = listening_log()
        self.lines: list[AccessLine] = []
        self.recorder = Recorder(Metrics(), self.log, self.lines.append, trio.current_time)
        self.listener = bind(TcpAddress("127.0.0.1", 0))
        self.acceptors: list[Acceptor] = []

    def serve(self, handle: Handler | Taskless, *, most: int = 10, listener: socket.socket | None = None) -> Acceptor:
        post = Post("api", "inbound", most, listener or self.listener, bound_address(self.listener))
        acceptor = Acceptor(post, self.recorder, handle, engine=self.engine)
        self.acceptors.append(acceptor)
        return acceptor

    def knock(self) -> socket.socket:
        sock = socket.create_connection(self.listener.getsockname())
        sock.setblocking(False)
        return sock

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.fixture(params=["tasks", "fibers"])
async def door(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Door]:
    engine = EpollReadiness() if request.param == "fibers" else None
    if engine is not None:
        await nursery.start(engine.run)
    made = Door(nursery, engine)
    yield made
    nursery.cancel_scope.cancel()
    for acceptor in made.acceptors:
        acceptor.close()
    made.listener.close()


async def stay(_sock: socket.socket, _visit: Visit) -> None:
    await in_task()
    await trio.sleep_forever()


async def test_each_connection_has_a_number_and_a_line(door: Door) -> None:
    ids: list[str] = []

    async def handle(sock: socket.socket, visit: Visit) -> None:
        ids.append(visit.id)
        await receive(sock, 1)
        visit.end = ConnectionEnd(End.CLEAN)

    acceptor = door.serve(handle)
    assert acceptor.post.address == bound_address(door.listener)
    door.nursery.start_soon(acceptor.run, door.nursery)
    with door.knock() as one, door.knock() as two:
        await door.settle()
        assert door.recorder.listener("api").open == 2
        assert repr(acceptor) == "<Acceptor api open=2/10>"
        one.send(b"x")
        two.send(b"x")
        await door.settle()
    assert len(set(ids)) == 2
    assert sorted(line.id for line in door.lines) == sorted(ids)
    assert {line.end for line in door.lines} == {"clean"}
    assert door.recorder.listener("api").open == 0


async def test_beyond_the_cap_callers_are_reset_counted_and_room_comes_back(door: Door) -> None:
    async def handle(sock: socket.socket, _visit: Visit) -> None:
        await receive(sock, 1)

    door.nursery.start_soon(door.serve(handle, most=1).run, door.nursery)
    with door.knock() as first:
        await door.settle()
        with door.knock() as second, pytest.raises(ConnectionResetError):
            await receive(second, 1)
        first.send(b"x")
        await door.settle()
    (event,) = door.heard.named("connection_refused")
    assert (event["reason"], event["listener"]) == ("max_connections", "api")
    assert door.recorder.listener("api").refused == {"max_connections": 1}
    with door.knock() as third:
        await door.settle()
        assert door.recorder.listener("api").open == 1
        third.send(b"x")
        await door.settle()


async def test_a_bug_in_one_connection_ends_it_alone_and_is_told(door: Door) -> None:
    async def handle(sock: socket.socket, _visit: Visit) -> None:
        if await receive(sock, 1) == b"!":
            raise ZeroDivisionError("a bug")
        await in_task()
        await trio.sleep_forever()

    door.nursery.start_soon(door.serve(handle).run, door.nursery)
    with door.knock() as unlucky, door.knock() as other:
        other.send(b"x")
        unlucky.send(b"!")
        with pytest.raises(ConnectionResetError):
            await receive(unlucky, 1)
        await door.settle()
        assert door.recorder.listener("api").open == 1
    (line,) = door.lines
    assert (line.end, line.detail) == ("failed", "internal error")
    (event,) = door.heard.named("internal_error")
    assert event["id"] == line.id


@pytest.mark.parametrize(("caller", "told"), [("spiffe://mesh.test/web", True), ("", False)])
async def test_who_is_cut_by_the_drain_is_told_if_it_had_got_anywhere(
    door: Door,
    caller: str,
    told: bool,  # noqa: FBT001 - a row of the table
) -> None:
    async def handle(_sock: socket.socket, visit: Visit) -> None:
        visit.caller = caller
        await Signal().wait()

    acceptor = door.serve(handle)
    async with trio.open_nursery() as connections:
        connections.start_soon(acceptor.run, connections)
        with door.knock():
            await door.settle()
            tasks = len(connections.child_tasks) - 1
            assert (tasks, acceptor.open) == (0 if door.engine else 1, 1)
        connections.cancel_scope.cancel()
        acceptor.unattended.cut()
    assert [line.end for line in door.lines] == (["drained"] if told else [])
    assert door.recorder.listener("api").open == 0


async def test_who_waits_in_the_queue_is_taken_on_before_closing(door: Door) -> None:
    acceptor = door.serve(stay)
    with door.knock(), door.knock():
        acceptor.take_waiting(door.nursery)
        acceptor.close()
        acceptor.close()
        await door.settle()
        assert door.recorder.listener("api").open == 2


async def test_emptying_the_queue_without_descriptors_left_does_not_stop_a_drain(door: Door) -> None:
    class Starved:
        def accept(self) -> tuple[socket.socket, object]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    acceptor = Acceptor(
        Post("api", "inbound", 10, cast("socket.socket", Starved()), bound_address(door.listener)),
        door.recorder,
        stay,
    )
    acceptor.take_waiting(door.nursery)
    (event,) = door.heard.named("accepting_paused")
    assert event["error"] == "Too many open files"


async def test_the_line_counts_bytes_towards_the_upstream_as_in() -> None:
    traffic = Traffic(to_tls=1, to_plain=2)
    by_direction = {
        direction: Visit("api", direction, "10.0.0.1:1", traffic=traffic).line(ConnectionEnd(End.RESET, Side.TLS, "x"))
        for direction in ("inbound", "outbound")
    }
    assert (by_direction["inbound"].bytes_in, by_direction["inbound"].bytes_out) == (2, 1)
    assert (by_direction["outbound"].bytes_in, by_direction["outbound"].bytes_out) == (1, 2)
    assert (by_direction["inbound"].side, by_direction["inbound"].detail) == ("tls", "x")


class Alone(Taskless):
    """Begins without a task; what then happens is the test's."""

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self.bug: Exception | None = None

    def begin(self, stay: Stay) -> None:
        if self.bug is not None:
            raise self.bug
        self.stays.append(stay)
        stay.go_on_alone(self)

    def cut(self) -> None:
        while self.stays:
            self.stays.pop().left_alone(lambda: None)


@pytest.fixture
async def alone(door: Door) -> AsyncIterator[tuple[Alone, Acceptor]]:
    handler = Alone()
    acceptor = door.serve(handler, most=1)
    door.nursery.start_soon(acceptor.run, door.nursery)
    yield handler, acceptor
    acceptor.unattended.cut()
    await acceptor.unattended.wait_until_none()
    assert (acceptor.open, len(acceptor.visits)) == (0, 0)


async def test_a_connection_without_a_task_is_counted_until_it_leaves(
    door: Door, alone: tuple[Alone, Acceptor]
) -> None:
    handler, acceptor = alone
    await door.settle()
    tasks = len(door.nursery.child_tasks)
    with door.knock():
        await door.settle()
        assert len(door.nursery.child_tasks) == tasks
        assert (acceptor.open, len(acceptor.visits), door.recorder.counts["api"].open) == (1, 1, 1)
        with door.knock() as second, pytest.raises(ConnectionResetError):
            await receive(second, 1)  # the cap counts it
        handler.cut()
    assert (acceptor.open, len(acceptor.visits), door.recorder.counts["api"].open) == (0, 0, 0)


async def test_a_connection_without_a_task_may_get_one(door: Door, alone: tuple[Alone, Acceptor]) -> None:
    handler, acceptor = alone
    end = trio.Event()

    async def go_on(_sock: socket.socket, _visit: Visit) -> None:
        await end.wait()

    with door.knock():
        await door.settle()
        handler.stays.pop().attended_by(go_on)
        await acceptor.unattended.wait_until_none()
        await door.settle()
        assert acceptor.open == 1
        end.set()
        await door.settle()
        assert acceptor.open == 0


@pytest.mark.parametrize("where", ["beginning", "end"])
async def test_a_bug_in_a_connection_without_a_task_ends_it_alone_and_is_told(
    door: Door, alone: tuple[Alone, Acceptor], where: str
) -> None:
    handler, acceptor = alone

    def failing() -> None:
        raise ZeroDivisionError("a bug")

    if where == "beginning":
        handler.bug = ZeroDivisionError("a bug")
    with door.knock() as caller:
        await door.settle()
        if where == "end":
            handler.stays.pop().left_alone(failing)
        with pytest.raises(ConnectionResetError):
            await receive(caller, 1)
    assert door.heard.names == ["internal_error"]
    assert [line.end for line in door.lines] == ["failed"]
    assert acceptor.open == 0
    handler.bug = None
    with door.knock():
        await door.settle()
        assert acceptor.open == 1
