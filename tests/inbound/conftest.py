"""The machinery of a sidecar's HTTP mode in one process: engine, sweeper, pool, and peers at both ends of it."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.http.codec import ResponseReader
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Terms
from meshproxy.inbound.deadlines import Patience
from meshproxy.inbound.driver import HttpDriver
from meshproxy.inbound.machinery import Machinery, Outcome, clock
from meshproxy.upstream.pool import Pool, UpstreamConnection
from meshproxy.wire.channel import PlainChannel, TlsChannel
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection, receive
from tests.http.screenplay import LIMITS, judge
from tests.wire.conftest import buffers, contexts, engine, handshake_both, wires  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshproxy.http.exchange import Exchange
    from meshproxy.inbound.machinery import Gate, Teller
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.endpoint import OnFailure
    from meshproxy.upstream.queue import NoUpstreamConnection
    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.readiness import Readiness
    from tests.wire.conftest import Contexts, Wires

_LONGEST = 30.0  # seconds of real time for one test

PATIENCE = Patience(head=10, idle=300, response=60, body_min_rate=500)


class Peer:
    """Whoever is at the far end of a connection, plain or TLS."""

    def __init__(self, sock: socket.socket, tls: TlsConnection | None = None) -> None:
        self.sock = sock
        self.tls = tls
        self.heard = bytearray()
        self.end = ""  # "notify", "fin" or "reset"
        self._clear = memoryview(bytearray(512 * 1024))

    async def says(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.session.write(data)
            data = self.tls.outgoing.read()
        waiting = memoryview(data)
        while waiting:
            try:
                waiting = waiting[self.sock.send(waiting) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def more(self) -> bool:
        """Hear what there is, waiting for the first; False at the end, of whichever kind."""
        try:
            raw = await receive(self.sock, 65536)
        except OSError:
            self.end = "reset"
            return False
        if not raw:
            self.end = "fin"
            return False
        if self.tls is None:
            self.heard += raw
            return True
        self.tls.incoming.write(raw)
        self.heard += self._clear[: self.tls.read_into(self._clear)]
        if self.tls.peer_has_ended:
            self.end = "notify"
        return not self.end

    async def hears(self, what: bytes) -> bytes:
        """Wait until that was said, and return everything up to it."""
        while what not in self.heard:
            assert await self.more() or what in self.heard, f"heard {bytes(self.heard[-300:])!r}, then {self.end}"
        end = self.heard.index(what) + len(what)
        heard = bytes(self.heard[:end])
        del self.heard[:end]
        return heard

    async def hears_end(self) -> str:
        while not self.end and await self.more():
            pass
        return self.end

    def half_closes(self) -> None:
        if self.tls is not None:
            with suppress(ssl.SSLWantReadError):
                self.tls.session.unwrap()
            self.sock.send(self.tls.outgoing.read())
        self.sock.shutdown(socket.SHUT_WR)

    def breaks(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@dataclass
class Visit:
    """One driven connection, and how it ended."""

    driver: HttpDriver
    told: list[tuple[Exchange, UpstreamConnection | None]] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    outcome: Outcome | None = None
    error: BaseException | None = None
    bug: BaseException | None = None  # raised by whoever is told
    limits: list[str] = field(default_factory=list)
    is_alone: bool = False  # it has no task

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        self.told.append((exchange, upstream))
        if self.bug is not None:
            raise self.bug

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        self.finished(exchange, upstream)

    def upstream_failed(self, failure: FailedAttempt, exchange: Exchange) -> None:
        raise AssertionError((failure, exchange))

    def waited(self, seconds: float) -> None:
        assert seconds >= 0

    def reached(self, limit: str) -> None:
        self.limits.append(limit)

    async def run(self, valid_for: float | None) -> None:
        """`None`: it has begun."""
        with self.scope:
            try:
                if valid_for is None:
                    self.outcome = await self.driver.attend()
                else:
                    self.outcome = await self.driver.run(valid_for=valid_for)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.error = error
            finally:
                self.done.set()

    def begin_alone(self, engine: Readiness, nursery: trio.Nursery, valid_for: float) -> None:  # noqa: F811
        """As `meshproxy.inbound.requests.TasklessConversation`."""

        def on_news() -> None:
            if self.is_alone:
                self.is_alone = False
                if self.driver.is_over:
                    engine.afterwards(end)
                else:
                    nursery.start_soon(self.run, None)

        def end() -> None:
            if not self.done.is_set():
                self.outcome = self.driver._pump.ending
                self.driver.end()
                self.done.set()

        self.is_alone = True
        self.driver.begin(on_news, valid_for=valid_for)

    def cut(self) -> None:
        """Cancel its task, if it has one."""
        if self.is_alone:
            self.is_alone = False
            self.driver.cut()
            self.done.set()
        self.scope.cancel()

    async def ended(self) -> Outcome | None:
        await self.done.wait()
        return self.outcome

    @property
    def failures(self) -> list[str]:
        return ["" if told.failure is None else told.failure.word for told, _ in self.told]


class House:
    """Makes callers and services, and sees in the end that nothing is left of them."""

    def __init__(
        self,
        engine: Readiness,  # noqa: F811
        buffers: Buffers,  # noqa: F811
        contexts: Contexts,  # noqa: F811
        wires: Wires,  # noqa: F811
        nursery: trio.Nursery,
    ) -> None:
        self.engine, self.buffers, self.contexts, self.wires, self.nursery = engine, buffers, contexts, wires, nursery
        self.sweeper = Sweeper()
        self.pool = Pool(engine, self.sweeper, idle=3.0, most=8)
        self.small = False  # small kernel buffers from now on
        self.gate: Gate | None = None  # of callers from now on
        self.far_tls = False  # services speak TLS from now on, and callers do not
        self.hold: trio.Event | None = None  # dials wait for it
        self.failure: NoUpstreamConnection | None = None  # dials fail with it
        self.taskless = False  # whether callers are, from now on, as long as they can
        self.dialled = 0
        self.dialling = trio.Event()
        self.visits: list[Visit] = []
        self._lines, self.lines = trio.open_memory_channel[Peer](1000)

    # Upstreams.

    generation = 0

    def resting(self) -> UpstreamConnection | None:
        return self.pool.take(generation=0)

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        del on_failure
        self.dialled += 1
        self.dialling.set()
        if self.hold is not None:
            await self.hold.wait()
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        near, far = self.wires.tcp(small=self.small)
        channel: Channel
        if self.far_tls:
            client = TlsConnection(near, self.contexts.client, server_side=False)
            server = TlsConnection(far, self.contexts.server, server_side=True)
            await handshake_both(client, server)
            channel = TlsChannel(client, self.engine, self.buffers)
            self._lines.send_nowait(Peer(far, server))
        else:
            channel = PlainChannel(near, self.engine, self.buffers)
            self._lines.send_nowait(Peer(far))
        return UpstreamConnection(channel, ResponseReader(LIMITS), "service")

    # Callers.

    async def caller(
        self,
        *,
        patience: Patience = PATIENCE,
        valid_for: float = 3600.0,
        relay: HttpRelay | None = None,
        teller: Teller | None = None,
    ) -> tuple[Peer, Visit]:
        near, far = self.wires.tcp(small=self.small)
        channel: Channel
        if self.far_tls:
            peer, channel = Peer(near), PlainChannel(far, self.engine, self.buffers)
        else:
            client = TlsConnection(near, self.contexts.client, server_side=False)
            server = TlsConnection(far, self.contexts.server, server_side=True)
            await handshake_both(client, server)
            peer, channel = Peer(near, client), TlsChannel(server, self.engine, self.buffers)
        relay = relay or HttpRelay(Terms(LIMITS, judge, random.Random(1), most_pipelined=10_000), clock())
        machinery = Machinery(self.engine, self.sweeper, patience, self.gate)
        visit = Visit.__new__(Visit)
        Visit.__init__(visit, HttpDriver(machinery, channel, relay, self, teller or visit))
        self.visits.append(visit)
        if self.taskless:
            visit.begin_alone(self.engine, self.nursery, valid_for)
        else:
            self.nursery.start_soon(visit.run, valid_for)
        return peer, visit

    async def line(self) -> Peer:
        """The service's end of the next upstream connection."""
        return await self.lines.receive()

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            for visit in self.visits:
                visit.cut()
                await visit.done.wait()
        assert self.buffers.held == 0
        assert self.pool.flight.count == 0
        assert len(self.sweeper._items) == 1  # the pool
        self.pool.close_all()
        assert "watching=0 resumed=0" in repr(self.engine)
        assert len(self.sweeper._items) == 0
        assert self.pool.queue.open == sum(visit.outcome is Outcome.UPGRADED for visit in self.visits)


async def _end_what_hangs(nursery: trio.Nursery) -> None:
    """A lost edge shows as a test that waits for ever: fail it instead, by the clock on the wall."""
    await trio.to_thread.run_sync(threading.Event().wait, _LONGEST, abandon_on_cancel=True)
    nursery.cancel_scope.cancel()
    raise AssertionError(f"the test hangs after {_LONGEST} s")


@pytest.fixture
async def house(
    engine: Readiness,  # noqa: F811
    buffers: Buffers,  # noqa: F811
    contexts: Contexts,  # noqa: F811
    wires: Wires,  # noqa: F811
    nursery: trio.Nursery,
) -> AsyncIterator[House]:
    made = House(engine, buffers, contexts, wires, nursery)
    await nursery.start(made.sweeper.run)
    nursery.start_soon(_end_what_hangs, nursery)
    yield made
    await made.close()
