"""A running engine (both kinds), TLS contexts of a throw-away CA, and connected sockets."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from meshproxy.wire.buffers import Buffers
from meshproxy.wire.ends import PeerEof
from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.splice import Splice
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.trio_readiness import TrioReadiness
from tests.shaking import shake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from meshproxy.wire.readiness import Readiness


@dataclass
class Contexts:
    """Two ends that trust each other."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        ca.issue_cert("peer.test").configure_cert(context)
        ca.configure_trust(context)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
    server.num_tickets = 0
    return Contexts(server, client)


class SecondEpoll(EpollReadiness):
    """An engine beside another in the same run of trio: the place of trio's wait is taken, so it runs as a task."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(EpollReadiness().run)
            await super().run(task_status)


@pytest.fixture(params=[EpollReadiness, SecondEpoll, TrioReadiness], ids=["epoll", "second", "trio"])
async def engine(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Readiness:
    made: Readiness = request.param()
    await nursery.start(made.run)
    return made


@pytest.fixture
def buffers() -> Buffers:
    return Buffers()


class Wires:
    """Makes connected, non-blocking socket pairs and closes them after the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def tcp(self, *, small: bool = False) -> tuple[socket.socket, socket.socket]:
        """A TCP connection over loopback; `small` asks for small kernel buffers, to provoke partial sends."""
        with socket.socket() as listener:
            if small:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            near = socket.socket()
            if small:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            near.connect(listener.getsockname())
            far, _ = listener.accept()
            if small:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return self._kept(near, far)

    def unix(self) -> tuple[socket.socket, socket.socket]:
        """A connected pair of unix stream sockets."""
        return self._kept(*socket.socketpair())

    def _kept(self, *pair: socket.socket) -> tuple[socket.socket, socket.socket]:
        for sock in pair:
            sock.setblocking(False)
            if sock.family == socket.AF_INET:  # as the house sets it; else a short word waits 40 ms for an ACK
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stack.enter_context(sock)
        return pair[0], pair[1]


@pytest.fixture
def wires() -> Iterator[Wires]:
    with ExitStack() as stack:
        yield Wires(stack)


async def handshake_both(client: TlsConnection, server: TlsConnection) -> None:
    """Carry out both sides of a handshake."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, client)
        nursery.start_soon(shake, server)


@dataclass
class Tunnel:
    """app_a <plain> splice_a <TLS> splice_b <plain> app_b, all on one engine."""

    app_a: socket.socket
    app_b: socket.socket
    a: Splice
    b: Splice
    tls_a: socket.socket
    tls_b: socket.socket


class Tunnels:
    """Builds tunnels and releases their splices after the test."""

    def __init__(self, engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires) -> None:
        self.engine, self.buffers, self.contexts, self.wires = engine, buffers, contexts, wires
        self.made: list[Tunnel] = []

    async def make(self, *, small: bool = False, unix: bool = False, peer_eof: PeerEof = PeerEof.STRICT) -> Tunnel:
        app_a, plain_a = self.wires.unix() if unix else self.wires.tcp(small=small)
        app_b, plain_b = self.wires.unix() if unix else self.wires.tcp(small=small)
        near, far = self.wires.tcp(small=small)
        client = TlsConnection(near, self.contexts.client, server_side=False)
        server = TlsConnection(far, self.contexts.server, server_side=True)
        await handshake_both(client, server)
        tunnel = Tunnel(
            app_a,
            app_b,
            Splice(self.engine, self.buffers, plain_a, client, peer_eof),
            Splice(self.engine, self.buffers, plain_b, server, peer_eof),
            near,
            far,
        )
        tunnel.a.start()
        tunnel.b.start()
        self.made.append(tunnel)
        return tunnel


@pytest.fixture
async def tunnels(engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires) -> AsyncIterator[Tunnels]:
    made = Tunnels(engine, buffers, contexts, wires)
    yield made
    for tunnel in made.made:
        tunnel.a.release()
        tunnel.b.release()
    assert buffers.held == 0
