"""A driven HTTP connection whose caller, or whose upstream, is believed no more: cut at once, whatever is going on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from ca import SpiffeId
from ca.deny_list import Marks
from ca.svid import Leaf, LeafFault
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Terms
from meshproxy.identity.peer import Objection
from meshproxy.identity.peer import Peer as JudgedPeer
from meshproxy.identity.sessions import Sessions
from meshproxy.inbound.ledger import Ledger
from meshproxy.inbound.live import Live
from meshproxy.inbound.machinery import Machinery, Outcome, clock
from meshproxy.inbound.pump_ends import Ends
from meshproxy.inbound.requests import Conversation, Way, converse
from meshproxy.inbound.visit import Services
from meshproxy.inbound.visit import Visit as Visited
from meshproxy.telemetry.access import RequestLine
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.upstream.pool import NEVER
from meshproxy.wire.channel import TlsChannel
from meshproxy.wire.dial import Resolver
from meshproxy.wire.relay import Relay, Term
from meshproxy.wire.tls import TlsConnection
from tests.hearing import listening_log
from tests.http.screenplay import LIMITS, judge
from tests.inbound.conftest import PATIENCE, Peer
from tests.wire.conftest import handshake_both

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshproxy.identity.store import IdentityStore
    from meshproxy.telemetry.access import AccessLine
    from meshproxy.upstream.endpoint import OnFailure
    from meshproxy.upstream.pool import UpstreamConnection
    from tests.inbound.conftest import House, Visit

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
DENIED_WITH_BODY = b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"
END = b"\r\n\r\n"
WHY = "serial 5e was revoked"


async def idle(house: House, caller: Peer) -> None:
    """Between two requests, with a connection at rest in the pool."""
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(OK)
    await caller.hears(b"hi")


async def fresh(_house: House, _caller: Peer) -> None:
    await trio.testing.wait_all_tasks_blocked()


async def in_a_head(_house: House, caller: Peer) -> None:
    await caller.says(GET[:20])
    await trio.testing.wait_all_tasks_blocked(0.01)


async def dialling(house: House, caller: Peer) -> None:
    house.hold = trio.Event()
    await caller.says(GET)
    await house.dialling.wait()


async def in_a_body(house: House, caller: Peer) -> None:
    await caller.says(POST + b"he")
    await (await house.line()).hears(b"he")


async def waiting(house: House, caller: Peer) -> None:
    await caller.says(GET)
    await (await house.line()).hears(END)


async def answering(house: House, caller: Peer) -> None:
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(HALF)
    await caller.hears(b"hi")


async def discarding(_house: House, caller: Peer) -> None:
    await caller.says(DENIED_WITH_BODY)
    await caller.hears(b"403")


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (fresh, []),
        (idle, [""]),
        (in_a_head, ["revoked"]),
        (dialling, ["revoked"]),
        (in_a_body, ["revoked"]),
        (waiting, ["revoked"]),
        (answering, ["revoked"]),
        (discarding, ["denied"]),
    ],
)
async def test_a_caller_is_cut_in_the_middle_of_everything(
    house: House, stage: Callable[[House, Peer], Awaitable[None]], told: list[str]
) -> None:
    caller, visit = await house.caller()
    await stage(house, caller)
    visit.driver.revoke(WHY)
    visit.driver.revoke("and once more")
    assert await caller.hears_end() == "reset"
    assert await visit.ended() is Outcome.ABORTED
    assert visit.failures == told
    assert all(exchange.detail == WHY for exchange, _ in visit.told if exchange.failure and told == ["revoked"])


async def test_one_that_says_its_last_words_is_let_go_at_once(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(LAST)
    line = await house.line()
    await line.hears(END)
    await line.says(OK)
    assert await caller.hears_end() == "notify"  # answered; we wait for its end
    visit.driver.revoke(WHY)
    await visit.ended()
    assert visit.failures == [""]


async def test_a_connection_that_is_over_is_not_cut_again(house: House) -> None:
    caller, visit = await house.caller()
    caller.breaks()
    await visit.ended()
    visit.driver.revoke(WHY)
    assert visit.outcome is Outcome.ABORTED


def current_upstream(visit: Visit) -> None:
    connection = visit.driver.upstream
    assert connection is not None
    assert connection.user is not None
    connection.user.on_upstream_revoked(connection, WHY)


async def test_an_upstream_that_is_believed_no_more_is_answered_for(house: House) -> None:
    """As if it had broken off, and said by what it was."""
    caller, visit = await house.caller()
    await caller.says(POST + b"hello")
    line = await house.line()
    await line.hears(b"hello")
    current_upstream(visit)
    assert await line.hears_end() == "reset"
    assert b"502" in await caller.hears(b"502")
    assert visit.failures == ["upstream_identity"]
    assert visit.told[0][0].detail == WHY
    assert "resting=0" in repr(house.pool)


async def test_an_answer_of_an_upstream_that_is_believed_no_more_is_cut(house: House) -> None:
    caller, visit = await house.caller()
    await answering(house, caller)
    current_upstream(visit)
    assert await caller.hears_end() == "reset"
    assert await visit.ended() is Outcome.ABORTED
    assert visit.failures == ["response_truncated"]


async def test_one_that_the_exchange_has_no_more_is_nobodys_business(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    connection = visit.driver.upstream
    assert connection is not None
    user = connection.user
    assert user is not None
    await line.says(OK)
    await caller.hears(b"hi")
    user.on_upstream_revoked(connection, WHY)
    assert "resting=1" in repr(house.pool)


# Upgraded: the driver lets go, and a stream takes over.


@dataclass
class Upgrading:
    """A house whose upstream connections belong to sessions, and whatever needs one to carry a connection."""

    house: House
    sessions: Sessions
    lines: list[AccessLine]
    services: Services

    def __post_init__(self) -> None:
        self.pool = self.house.pool
        self.generation = 0

    def resting(self) -> UpstreamConnection | None:
        return self.house.resting()

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        connection = await self.house.dial(on_failure)
        now = datetime.now(UTC)
        far = JudgedPeer(Leaf(SpiffeId.parse("spiffe://mesh.test/api"), 1, "", now, now), Marks("", "1", "", "", now))
        connection.session = self.sessions.of(far, listener="out", connection="far")
        return connection

    def revoke(self) -> int:
        return self.sessions.recheck(lambda _: Objection(LeafFault.REVOKED, WHY), lambda *_: None)

    async def carry(self, downstream: TlsChannel) -> None:
        """As an outbound listener's handler does: nobody else judges."""
        machinery = Machinery(self.house.engine, self.house.sweeper, PATIENCE)
        ledger = Ledger("out", self.services.recorder, self.house.engine.afterwards)
        way = Way(machinery, self, Live(), ledger)
        conversation = Conversation(way, self.services, Visited("out", "outbound", "peer"))
        relay = HttpRelay(Terms(LIMITS, judge, random.Random(1)), clock())
        await converse(downstream, relay, conversation, Term(300, NEVER))


@pytest.fixture
def upgrading(house: House) -> Upgrading:
    lines: list[AccessLine] = []
    recorder = Recorder(Metrics(), listening_log()[0], lines.append, trio.current_time)
    relay = Relay(house.engine, house.buffers, house.sweeper, lambda: datetime.now(UTC))
    services = Services(relay, Resolver(), cast("IdentityStore", None), recorder)
    return Upgrading(house, Sessions(), lines, services)


@pytest.mark.parametrize("when", ["as it is upgraded", "before the next turn", "later"])
async def test_a_stream_ends_whenever_its_far_end_is_believed_no_more(
    upgrading: Upgrading, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Also between the last callback of the exchange and the first of the stream: then not one byte more is moved."""
    house = upgrading.house
    near, far = house.wires.tcp()
    client = TlsConnection(near, house.contexts.client, server_side=False)
    server = TlsConnection(far, house.contexts.server, server_side=True)
    await handshake_both(client, server)
    caller = Peer(near, client)
    end = Ends._end

    def end_and_revoke(pump: Ends, how: Outcome) -> None:
        if when == "as it is upgraded":
            assert upgrading.revoke() == 1
        end(pump, how)
        if when == "before the next turn":
            assert upgrading.revoke() == 1

    monkeypatch.setattr(Ends, "_end", end_and_revoke)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgrading.carry, TlsChannel(server, house.engine, house.buffers))
        await caller.says(UPGRADE)
        line = await house.line()
        await line.hears(END)
        if when == "later":
            monkeypatch.setattr(Ends, "_end", end)
            await line.says(SWITCH + b"greetings")
            await caller.hears(b"greetings")
            assert upgrading.revoke() == 1
        else:
            await line.says(SWITCH)
        assert await caller.hears_end() == "reset"
        assert await line.hears_end() == "reset"
    [told] = upgrading.lines
    assert isinstance(told, RequestLine)
    assert (told.end, told.detail, told.status) == ("revoked", WHY, 101)
    assert len(upgrading.sessions) == 0
