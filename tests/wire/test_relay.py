"""One connection attended to its end: by idleness and age on clocks that may jump, and closed as the end deserves."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.closing import reset
from meshproxy.wire.ends import ConnectionEnd, End, PeerEof, Side
from meshproxy.wire.relay import Relay, Term, Traffic
from meshproxy.wire.splice import Splice
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection, receive
from tests.wire.conftest import handshake_both

if TYPE_CHECKING:
    from trio.testing import MockClock

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from tests.wire.conftest import Contexts, Wires

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class WallClock:
    """Goes with trio's clock until it is made to jump."""

    def __init__(self) -> None:
        self.jumped = timedelta()
        self.started = trio.current_time()

    def __call__(self) -> datetime:
        return NOON + timedelta(seconds=trio.current_time() - self.started) + self.jumped


@dataclass
class Attended:
    """A relay between `app` (plain) and `far` (the TLS peer, driven by hand)."""

    app: socket.socket
    far: TlsConnection
    plain: socket.socket
    tls: TlsConnection
    wall: WallClock
    traffic: Traffic = field(default_factory=Traffic)
    ended: ConnectionEnd | None = None

    async def run(self, relay: Relay, *, idle: float, lives: timedelta, age: float | None = None) -> None:
        term = Term(idle, NOON + lives, age)
        self.ended = await relay.run(self.plain, self.tls, peer_eof=PeerEof.STRICT, term=term, traffic=self.traffic)

    def how(self) -> tuple[End, Side | None] | None:
        """How it ended, and by which side; None while it goes on."""
        return (self.ended.end, self.ended.side) if self.ended else None

    async def say(self, data: bytes) -> None:
        """Let the TLS peer say something."""
        self.far.session.write(data)
        await self.far.flush()

    async def hear(self) -> bytes:
        """Return what the TLS peer is told next; `b""` for a close_notify, ConnectionError for anything ruder."""
        while True:
            try:
                return self.far.session.read(65536)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                received = await receive(self.far.sock, 65536)
                if not received:
                    raise ConnectionAbortedError("a bare FIN") from None
                self.far.incoming.write(received)

    async def end_properly(self) -> None:
        """Let both sides say goodbye."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.far.session.unwrap()
        await self.far.flush()
        self.app.shutdown(socket.SHUT_WR)

    @property
    def let_go(self) -> bool:
        """Whether both sockets of the relay are closed."""
        return self.plain.fileno() == self.tls.sock.fileno() == -1


@dataclass
class Attend:
    """Starts attended connections on one engine."""

    engine: Readiness
    buffers: Buffers
    contexts: Contexts
    wires: Wires
    nursery: trio.Nursery
    sweeper: Sweeper

    async def __call__(
        self,
        *,
        idle: float = 60.0,
        lives: timedelta = timedelta(days=1),
        small: bool = False,
        age: float | None = None,
    ) -> Attended:
        made = await self.prepare(small=small)
        self.nursery.start_soon(lambda: made.run(self.relay(made), idle=idle, lives=lives, age=age))
        await trio.lowlevel.checkpoint()
        return made

    def relay(self, made: Attended) -> Relay:
        return Relay(self.engine, self.buffers, self.sweeper, made.wall)

    async def prepare(self, *, small: bool = False) -> Attended:
        app, plain = self.wires.tcp()
        near, far = self.wires.tcp(small=small)
        tls = TlsConnection(near, self.contexts.server, server_side=True)
        peer = TlsConnection(far, self.contexts.client, server_side=False)
        await handshake_both(peer, tls)
        return Attended(app, peer, plain, tls, WallClock())


@pytest.fixture
async def attend(
    engine: Readiness,
    buffers: Buffers,
    contexts: Contexts,
    wires: Wires,
    nursery: trio.Nursery,
) -> Attend:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    return Attend(engine, buffers, contexts, wires, nursery, sweeper)


async def test_a_clean_end_is_passed_on_as_one(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend()
    await made.say(b"question")
    assert await receive(made.app, 100) == b"question"
    made.app.send(b"answer!")
    assert await made.hear() == b"answer!"
    await made.end_properly()
    assert await made.hear() == b""
    assert await receive(made.app, 100) == b""
    await trio.sleep(1)
    assert made.ended == ConnectionEnd(End.CLEAN)
    assert made.traffic == Traffic(to_tls=7, to_plain=8)
    assert made.let_go


async def test_a_broken_side_is_passed_on_as_broken(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend()
    reset(made.app)
    with pytest.raises(ConnectionError):
        await made.hear()
    await trio.sleep(1)
    assert made.how() == (End.RESET, Side.PLAIN)
    assert made.let_go


async def test_what_came_before_a_truncation_is_delivered_before_the_reset(
    attend: Attend, settling_clock: MockClock
) -> None:
    made = await attend()
    await made.say(b"half of a")
    made.far.sock.shutdown(socket.SHUT_WR)
    await trio.sleep(2)
    assert made.how() == (End.TRUNCATED, Side.TLS)
    assert made.app.recv(100) == b"half of a"
    with pytest.raises(ConnectionResetError):
        made.app.recv(1)


async def test_a_connection_on_which_nothing_moves_is_ended(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend(idle=6)
    await trio.sleep(5.9)
    assert made.how() is None
    await trio.sleep(2)
    assert made.ended == ConnectionEnd(End.IDLE, None, "nothing moved for 6 s", "idle_timeout")
    assert made.let_go
    with pytest.raises(ConnectionResetError):
        made.app.recv(1)


async def test_a_byte_either_way_starts_the_idle_time_anew(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend(idle=3)
    for turn in range(6):
        await trio.sleep(2)
        if turn % 2:
            made.app.send(b"x")
        else:
            await made.say(b"x")
    assert made.how() is None
    await trio.sleep(5)
    assert made.how() == (End.IDLE, None)


async def test_a_slow_reader_is_not_idle_while_what_waits_for_it_moves(
    attend: Attend, settling_clock: MockClock
) -> None:
    made = await attend(idle=2, small=True)
    made.app.send(bytes(200_000))  # taken at once, and held for a reader that takes its time
    heard = 0
    for _ in range(12):
        await trio.sleep(1)
        heard += len(await made.hear())
    assert made.how() is None
    assert heard < 200_000


async def test_a_certificate_that_runs_out_ends_its_connection_in_time(
    attend: Attend, settling_clock: MockClock
) -> None:
    made = await attend(idle=1000, lives=timedelta(seconds=5))
    await trio.sleep(4.9)
    assert made.how() is None
    await trio.sleep(0.6)
    assert made.ended == ConnectionEnd(End.AGED, None, "a certificate of this connection has expired")
    assert made.let_go


async def test_a_busy_connection_ages_too(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend(lives=timedelta(seconds=10))
    for _ in range(11):
        if made.how() is None:
            await made.say(b"x")
        await trio.sleep(1)
    assert made.how() == (End.AGED, None)


async def test_a_busy_connection_ends_as_old_as_it_may_grow(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend(age=10)
    for _ in range(9):
        await made.say(b"x")
        await trio.sleep(1)
    assert made.how() is None
    await trio.sleep(2)
    assert made.ended == ConnectionEnd(End.AGED, None, "older than 10 s", "max_connection_age")


async def test_a_wall_clock_that_jumps_is_noticed_within_half_a_minute(
    attend: Attend, settling_clock: MockClock
) -> None:
    made = await attend(idle=1000, lives=timedelta(days=1))
    made.wall.jumped = timedelta(days=-30)
    await trio.sleep(5)
    assert made.how() is None
    made.wall.jumped = timedelta(days=2)
    await trio.sleep(30.5)
    assert made.how() == (End.AGED, None)


async def test_what_has_expired_already_is_ended_at_the_next_tick(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend(lives=timedelta(seconds=-1))
    await trio.sleep(0.3)
    assert made.how() == (End.AGED, None)


async def test_a_cancelled_relay_leaves_nothing_and_keeps_the_count(attend: Attend, settling_clock: MockClock) -> None:
    made = await attend.prepare(small=True)
    with trio.move_on_after(5) as scope:
        made.app.send(bytes(100_000))
        await made.say(b"some")
        await made.run(attend.relay(made), idle=60, lives=timedelta(days=1))
    assert scope.cancelled_caught
    assert made.how() is None
    assert made.let_go
    assert (attend.buffers.held, made.traffic.to_plain) == (0, 4)
    assert made.traffic.to_tls > 0
    assert "watching=0 resumed=0" in repr(attend.engine)


async def test_a_bug_in_a_callback_surfaces_in_the_owner_and_nothing_stays_open(
    attend: Attend, settling_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Splice, _events: int) -> bool:
        raise ZeroDivisionError("a bug")

    made = await attend.prepare()
    monkeypatch.setattr(Splice, "_pull_plain", fail)
    made.app.send(b"x")
    with pytest.raises(ZeroDivisionError):
        await made.run(attend.relay(made), idle=60, lives=timedelta(days=1))
    assert made.let_go
    assert "watching=0" in repr(attend.engine)
