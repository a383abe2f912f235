"""An outbound HTTP connection has a task only when something takes time, and leaves nothing, however it ends."""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Terms
from meshproxy.inbound.accept import Acceptor, Post, Stay, Taskless
from meshproxy.inbound.ledger import Ledger
from meshproxy.inbound.live import Live
from meshproxy.inbound.machinery import Machinery, clock
from meshproxy.inbound.requests import Conversation, TasklessConversation, Way
from meshproxy.inbound.visit import Services
from meshproxy.outbound.requests import grant_all
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.upstream.pool import NEVER
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.channel import PlainChannel
from meshproxy.wire.dial import Resolver
from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.listen import bind, bound_address
from meshproxy.wire.relay import Relay, Term
from tests.hearing import listening_log
from tests.http.screenplay import LIMITS
from tests.inbound.conftest import PATIENCE, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshproxy.identity.store import IdentityStore
    from meshproxy.telemetry.access import AccessLine
    from tests.inbound.conftest import House

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
END = b"\r\n\r\n"

pytestmark = pytest.mark.parametrize("engine", [EpollReadiness], ids=["epoll"], indirect=True)


@dataclass
class Office(Taskless):
    """An acceptor whose connections are those of an outbound listener, before a house of upstreams."""

    house: House
    listener: socket.socket
    services: Services
    way: Way
    lines: list[AccessLine]
    acceptor: Acceptor
    connections: trio.Nursery
    callers: list[socket.socket] = field(default_factory=list)

    def begin(self, stay: Stay) -> None:
        house = self.house
        relay = HttpRelay(Terms(LIMITS, grant_all, random.Random(1)), clock())
        channel = PlainChannel(stay.sock, house.engine, house.buffers)
        conversation = Conversation(self.way, self.services, stay.visit)
        TasklessConversation(channel, relay, conversation, Term(300, NEVER), stay).begin()

    async def knock(self) -> Peer:
        before, sock = self.acceptor.open, socket.create_connection(self.listener.getsockname())
        sock.setblocking(False)
        self.callers.append(sock)
        while self.acceptor.open == before:
            await trio.testing.wait_all_tasks_blocked()
        return Peer(sock)

    @property
    def tasks(self) -> int:
        """Of connections: the acceptor has one itself."""
        return len(self.connections.child_tasks) - 1

    async def until_all_have_left(self) -> None:
        await self.acceptor.unattended.wait_until_none()
        while self.acceptor.open:
            await trio.testing.wait_all_tasks_blocked()
        assert "open=0" in repr(self.way.live)
        assert self.acceptor.visits == {}


@pytest.fixture
async def office(house: House) -> AsyncIterator[Office]:
    house.far_tls = True
    lines: list[AccessLine] = []
    recorder = Recorder(Metrics(), listening_log()[0], lines.append, trio.current_time)
    relay = Relay(house.engine, house.buffers, house.sweeper, lambda: NEVER)
    services = Services(relay, Resolver(), cast("IdentityStore", None), recorder)
    machinery = Machinery(house.engine, house.sweeper, PATIENCE)
    way = Way(machinery, house, Live(), Ledger("out", recorder, house.engine.afterwards))
    listener = bind(TcpAddress("127.0.0.1", 0))
    async with trio.open_nursery() as connections:
        made = Office(house, listener, services, way, lines, cast("Acceptor", None), connections)
        made.acceptor = Acceptor(Post("out", "outbound", 10, listener, bound_address(listener)), recorder, made)
        connections.start_soon(made.acceptor.run, connections)
        yield made
        connections.cancel_scope.cancel()
        made.acceptor.unattended.cut()
    for caller in made.callers:
        caller.close()
    made.acceptor.close()
    await made.until_all_have_left()


async def warmed(office: Office) -> Peer:
    """Have an upstream connection at rest; returns the service's end of it."""
    caller = await office.knock()
    await caller.says(LAST)
    line = await office.house.line()
    await line.hears(END)
    assert office.tasks == 1  # it dialled
    await line.says(OK)
    await caller.hears(b"hi")
    assert await caller.hears_end() == "fin"
    caller.sock.close()
    await office.until_all_have_left()
    assert office.tasks == 0
    return line


async def test_who_finds_an_upstream_at_rest_never_has_a_task(office: Office) -> None:
    line = await warmed(office)
    for number in range(3):
        caller = await office.knock()
        await caller.says(LAST)
        await line.hears(END)
        assert office.tasks == 0
        await line.says(OK)
        await caller.hears(b"hi")
        assert await caller.hears_end() == "fin"
        caller.sock.close()
        await office.until_all_have_left()
        assert len(office.lines) == 2 + number
    assert office.house.dialled == 1


async def test_who_needs_another_upstream_later_gets_a_task_then(office: Office) -> None:
    line = await warmed(office)
    first, second = await office.knock(), await office.knock()
    await first.says(GET)
    await line.hears(END)
    assert office.tasks == 0
    await second.says(GET)
    other = await office.house.line()
    await other.hears(END)
    assert office.tasks == 1
    for caller, end in ((first, line), (second, other)):
        await end.says(OK)
        await caller.hears(b"hi")
        caller.sock.close()
    await office.until_all_have_left()
    assert len(office.lines) == 3


async def test_an_upgrade_gets_a_task_that_carries_the_stream(office: Office) -> None:
    line = await warmed(office)
    caller = await office.knock()
    await caller.says(UPGRADE)
    await line.hears(END)
    assert office.tasks == 0
    await line.says(SWITCH)
    await caller.hears(END)
    await caller.says(b"over")
    await line.hears(b"over")
    await line.says(b"back")
    await caller.hears(b"back")
    assert office.tasks == 1
    caller.sock.close()
    assert await line.hears_end() == "notify"
    line.sock.close()
    await office.until_all_have_left()
    office.house.pool.queue.open = 0  # what was lent was closed with its stream


@pytest.mark.parametrize("when", ["before it asks", "while it is answered", "when it has left"])
async def test_whoever_has_no_task_is_cut_with_the_others(office: Office, when: str) -> None:
    line = await warmed(office)
    caller = await office.knock()
    if when != "before it asks":
        await caller.says(GET)
        await line.hears(END)
    if when == "when it has left":
        caller.breaks()
        await office.until_all_have_left()
    office.acceptor.unattended.cut()
    office.acceptor.unattended.cut()
    await office.until_all_have_left()
    assert office.tasks == 0
    if when != "when it has left":
        assert await caller.hears_end() == "reset"
    if when == "before it asks":
        assert len(office.lines) == 1
    else:
        assert await line.hears_end() == "reset"
        assert len(office.lines) == 2


async def test_a_drain_asks_it_to_end_and_waits(office: Office) -> None:
    line = await warmed(office)
    caller = await office.knock()
    await caller.says(GET)
    await line.hears(END)
    office.way.live.drain(1.0)
    assert office.acceptor.open == 1
    await line.says(OK)
    assert b"connection: close" in (await caller.hears(b"hi")).lower()
    assert await caller.hears_end() == "fin"
    caller.sock.close()
    await office.until_all_have_left()


async def test_who_cannot_even_begin_leaves_nothing_behind(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no more sockets can be watched")

    monkeypatch.setattr(office.house.engine, "watch", full)
    sock = socket.create_connection(office.listener.getsockname())
    sock.setblocking(False)
    office.callers.append(sock)
    assert await Peer(sock).hears_end() == "reset"
    monkeypatch.undo()
    assert "UnattendedConnections 0" in repr(office.acceptor.unattended)
    office.acceptor.unattended.cut()
    await office.until_all_have_left()
