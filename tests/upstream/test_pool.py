"""Resting connections: the last used first, for a short while, and never one that is not quiet."""

from __future__ import annotations

import select
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ca import SpiffeId
from ca.deny_list import Marks
from ca.svid import Leaf, LeafFault
from meshproxy.http.codec import ResponseReader
from meshproxy.http.head import HeadLimits
from meshproxy.identity.peer import Objection
from meshproxy.identity.peer import Peer as JudgedPeer
from meshproxy.identity.sessions import Sessions
from meshproxy.upstream.pool import Pool, UpstreamConnection
from meshproxy.wire.channel import PlainChannel, TlsChannel
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection
from tests.inbound.conftest import Peer
from tests.wire.conftest import buffers, contexts, engine, handshake_both, wires  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from tests.wire.conftest import Contexts, Wires


NOW = datetime.now(UTC)


class Stand:
    """A pool, and connections for it."""

    def __init__(self, engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires) -> None:  # noqa: F811
        self.engine, self.buffers, self.contexts, self.wires = engine, buffers, contexts, wires
        self.sweeper = Sweeper()
        self.pool = Pool(engine, self.sweeper, idle=3.0, most=3)
        self.sessions = Sessions()
        self.peer = JudgedPeer(
            Leaf(SpiffeId.parse("spiffe://mesh.test/far"), 1, "", NOW, NOW), Marks("", "1", "", "far", NOW)
        )

    def revoke(self) -> int:
        """Believe the far end of everything no more."""
        return self.sessions.recheck(lambda _: Objection(LeafFault.REVOKED, "revoked"), lambda *_: None)

    def bare(self) -> tuple[UpstreamConnection, Peer]:
        near, far = self.wires.tcp(small=True)
        channel = PlainChannel(near, self.engine, self.buffers)
        return UpstreamConnection(channel, ResponseReader(HeadLimits()), "service"), Peer(far)

    def plain(self) -> tuple[UpstreamConnection, Peer]:
        connection, peer = self.bare()
        return self._adopted(connection), peer

    async def tls(self) -> tuple[UpstreamConnection, Peer]:
        near, far = self.wires.tcp()
        client = TlsConnection(near, self.contexts.client, server_side=False)
        server = TlsConnection(far, self.contexts.server, server_side=True)
        await handshake_both(client, server)
        channel = TlsChannel(client, self.engine, self.buffers)
        connection = UpstreamConnection(channel, ResponseReader(HeadLimits()), "service")
        return self._adopted(connection), Peer(far, server)

    def _adopted(self, connection: UpstreamConnection) -> UpstreamConnection:
        connection.session = self.sessions.of(self.peer, listener="out", connection="far")
        self.pool.queue.open += 1
        self.pool.adopt(connection)
        return connection


class Reader:
    """Whoever has an exchange on a connection, and reads it to its end."""

    def __init__(self) -> None:
        self.revoked: list[tuple[UpstreamConnection, str]] = []

    def on_upstream(self, connection: UpstreamConnection, events: int) -> bool:
        connection.channel.hint(events)
        while not connection.channel.drained:
            connection.channel.receive()
        return not connection.channel.ended

    def on_upstream_revoked(self, connection: UpstreamConnection, why: str) -> None:
        self.revoked.append((connection, why))


@pytest.fixture
async def stand(
    engine: Readiness,  # noqa: F811
    buffers: Buffers,  # noqa: F811
    contexts: Contexts,  # noqa: F811
    wires: Wires,  # noqa: F811
    nursery: trio.Nursery,
) -> AsyncIterator[Stand]:
    made = Stand(engine, buffers, contexts, wires)
    await nursery.start(made.sweeper.run)
    yield made
    made.pool.close_all()
    assert (made.pool.queue.open, made.pool.flight.count) == (0, 0)
    assert "watching=0 resumed=0" in repr(engine)
    assert repr(made.sweeper) == "<Sweeper items=0>"
    assert buffers.held == 0
    assert len(made.sessions) == 0


async def test_the_last_used_comes_first(stand: Stand) -> None:
    first, _ = stand.plain()
    second, _ = stand.plain()
    stand.pool.give_back(first)
    stand.pool.give_back(second)
    assert first.used
    assert [stand.pool.take(generation=0) for _ in range(3)] == [second, first, None]
    stand.pool.drop(first)
    stand.pool.drop(second)


async def test_one_that_wants_to_be_left_alone_is_used_last_and_ends_with_the_oldest(
    stand: Stand, settling_clock: MockClock
) -> None:
    (first, peer), (second, _), (third, asked_much) = stand.plain(), stand.plain(), stand.plain()
    stand.pool.set_aside(first)
    stand.pool.give_back(second)
    assert stand.pool.take(generation=0) is second
    assert stand.pool.take(generation=0) is first, "there is no other"
    stand.pool.give_back(first)
    await trio.sleep(1)
    stand.pool.give_back(second)
    stand.pool.set_aside(third)
    assert [stand.pool.take(generation=0) for _ in range(2)] == [second, first]
    stand.pool.give_back(first)
    stand.pool.give_back(second)
    assert await asked_much.hears_end() == "fin"
    assert trio.current_time() <= 3.75, "it does not rest longer than the one it went before"
    assert await peer.hears_end() == "fin"


async def test_it_rests_for_so_long_and_is_then_ended_properly(stand: Stand, settling_clock: MockClock) -> None:
    one, peer = await stand.tls()
    stand.pool.give_back(one)
    assert await peer.hears_end() == "notify"
    assert 3 <= trio.current_time() <= 3.75
    later, _ = stand.plain()
    stand.pool.give_back(later)
    await trio.sleep(2)
    assert stand.pool.take(generation=0) is later
    stand.pool.drop(later)


async def test_no_more_than_so_many_rest(stand: Stand) -> None:
    peers = []
    for _ in range(4):
        one, peer = stand.plain()
        peers.append(peer)
        stand.pool.give_back(one)
    assert repr(stand.pool) == "<Pool resting=3/3>"
    assert await peers[3].hears_end() == "fin"


async def test_another_identitys_connection_is_not_used(stand: Stand) -> None:
    old, peer = await stand.tls()
    stand.pool.give_back(old)
    assert stand.pool.take(generation=1) is None
    assert await peer.hears_end() == "notify"


async def test_a_connection_past_its_certificate_is_not_used(stand: Stand) -> None:
    old, peer = stand.plain()
    old.ends_at = trio.current_time() - 1
    stand.pool.give_back(old)
    assert stand.pool.take(generation=0) is None
    assert await peer.hears_end() == "fin"


@pytest.mark.parametrize("what", ["end", "break", "bytes"])
@pytest.mark.parametrize("told", [False, True], ids=["before the engine tells", "after"])
async def test_a_connection_that_is_not_quiet_is_not_used(stand: Stand, what: str, *, told: bool) -> None:
    one, peer = stand.plain()
    stand.pool.give_back(one)
    await trio.testing.wait_all_tasks_blocked(0.01)
    if what == "bytes":
        await peer.says(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    elif what == "end":
        peer.half_closes()
    else:
        peer.breaks()
    select.select([one.channel.sock], [], [], 5)  # it has arrived, and nobody but the kernel knows
    if told:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert repr(stand.pool) == "<Pool resting=0/3>"
    assert stand.pool.take(generation=0) is None
    assert one.channel.sock.fileno() == -1


async def test_an_end_that_was_read_with_the_last_answer_is_not_forgotten(stand: Stand) -> None:
    one, peer = await stand.tls()
    one.user = Reader()
    await peer.says(b"the last answer")
    peer.half_closes()
    while not one.channel.ended:
        await trio.testing.wait_all_tasks_blocked()
    stand.pool.give_back(one)
    assert repr(stand.pool) == "<Pool resting=0/3>"


async def test_a_connection_that_still_holds_a_request_is_reset(stand: Stand) -> None:
    """Its answer came early; half of its request must not look like all of it."""
    one, peer = stand.plain()
    one.channel.send(bytes(1 << 20))
    assert one.channel.waiting
    stand.pool.give_back(one)
    assert await peer.hears_end() == "reset"


async def test_one_at_rest_whose_far_end_is_believed_no_more_is_gone_at_once(stand: Stand) -> None:
    one, peer = await stand.tls()
    stand.pool.give_back(one)
    assert stand.revoke() == 1
    assert await peer.hears_end() == "reset"
    assert repr(stand.pool) == "<Pool resting=0/3>"
    assert stand.pool.take(generation=0) is None
    assert stand.revoke() == 0


async def test_one_in_use_is_left_to_who_uses_it_and_told_once(stand: Stand) -> None:
    one, _ = await stand.tls()
    user = Reader()
    one.user = user
    assert [stand.revoke(), stand.revoke()] == [1, 0]
    assert user.revoked == [(one, "revoked")]
    stand.pool.drop(one)
