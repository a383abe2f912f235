"""A driven HTTP connection whose caller, or whose upstream, is believed no more: cut at once, whatever is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.inbound.machinery import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.inbound.conftest import House, Peer, Visit

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
DENIED_WITH_BODY = b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
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
