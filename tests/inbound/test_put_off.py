"""Who is refused because there is too much to do, and asks again at once: it is not heard before its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.inbound.machinery import Outcome
from meshproxy.limits.flight import FLOOR, INTERVAL, STANDS, Flight
from tests.inbound.test_driver import DENIED, END, GET, OK, one_engine, patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from tests.inbound.conftest import House, Peer

TOLD = 2.0  # seconds: Retry-After
SOONEST = 1.0  # that anybody is heard again
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"

pytestmark = one_engine


class Others:
    """Have as many requests going on as are let in."""

    in_flight = FLOOR


@pytest.fixture
async def others(house: House) -> AsyncIterator[Others]:
    """There is no room from now on."""
    made = Others()
    house.pool.flight.pools.add(made)
    house.pool.flight.observe_memory(0.97)
    yield made
    made.in_flight = 0


async def refused(caller: Peer, *, close: bool = False) -> float:
    """Hear a refusal; returns when."""
    answer = await caller.hears(b"}")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2\r\n" in answer
    assert (b"Connection: close\r\n" in answer) is close
    return trio.current_time()


def lag_stands(house: House) -> Flight:
    """Have the lag stand beyond its bound for as long as it takes to be believed."""
    flight = house.pool.flight
    flight.observe_memory(0.5)
    flight.bound(0.02)
    for intervals in range(STANDS + 1):
        flight.observe(0.03, intervals * INTERVAL)
    return flight


def is_over(house: House, others: Others) -> None:
    """There is room for everybody again."""
    others.in_flight = 0
    house.pool.flight.observe_memory(0.5)


@pytest.mark.parametrize("said", [GET, POST], ids=["get", "post"])
async def test_a_refusal_comes_at_once_and_what_is_said_too_early_is_refused_when_its_time_has_come(
    house: House, settling_clock: MockClock, others: Others, said: bytes
) -> None:
    caller, visit = await house.caller()
    asked = trio.current_time()
    await caller.says(said)
    before = await refused(caller)
    assert before - asked < 0.1
    for _ in range(3):
        await caller.says(said)
        now = await refused(caller)
        assert SOONEST <= now - before <= TOLD + 0.1
        before = now
    assert visit.failures == ["overloaded"] * 4
    assert {told.limit for told, _ in visit.told} == {"overload"}
    assert house.dialled == 0


async def test_who_stays_away_as_told_is_heard_at_once_and_served(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    await refused(caller)
    others.in_flight = FLOOR - 1  # there is room for one, and a bound still
    await trio.sleep(TOLD)
    asked = trio.current_time()
    await caller.says(GET)
    await exchange_on(await house.line(), caller)
    assert trio.current_time() - asked < 0.1
    assert visit.failures == ["overloaded", ""]


async def exchange_on(line: Peer, caller: Peer) -> None:
    await line.hears(END)
    await line.says(OK)
    await caller.hears(b"hi")


async def test_who_asks_too_early_is_served_when_there_is_no_bound_any_more(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    was_refused = await refused(caller)
    await caller.says(GET)
    is_over(house, others)
    await exchange_on(await house.line(), caller)
    assert SOONEST <= trio.current_time() - was_refused <= TOLD + 0.1
    assert visit.failures == ["overloaded", ""]
    await caller.says(GET)  # and from then on as anybody
    assert trio.current_time() - was_refused <= TOLD + 0.2


async def test_a_few_who_ask_too_early_may_ask_on_while_there_is_a_bound(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    flight = lag_stands(house)
    assert (flight.most, flight.has_room()) == (FLOOR, False)
    flight.sheds = True  # else the first request of each was let in
    callers = [await house.caller() for _ in range(8)]
    for caller, _ in callers:
        await caller.says(GET)
        await refused(caller)
        await caller.says(GET)
    for caller, _ in callers:
        await refused(caller)
        await caller.says(GET)
    await trio.sleep(0.1)
    few = int(FLOOR * 0.05)
    for _ in range(few):
        line = await house.line()
        await line.hears(END)
        await line.says(OK)
    await trio.sleep(0.1)
    assert sum(visit.failures == ["overloaded", "overloaded", ""] for _, visit in callers) == few
    assert sum(visit.failures == ["overloaded", "overloaded"] for _, visit in callers) == len(callers) - few


async def test_an_unacceptable_or_denied_request_that_comes_too_early_is_told_so(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    await refused(caller)
    await caller.says(DENIED)
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 403 ")
    await caller.says(DENIED)
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 403 ")
    await caller.says(b"GET\r\n\r\n")
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 400 ")
    assert await visit.ended() is Outcome.CLOSED


async def test_half_a_head_that_comes_too_early_has_its_time_and_is_refused(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    await refused(caller)
    await caller.says(GET[:10])
    await trio.sleep(TOLD + 1)
    await caller.says(GET[10:])
    asked = trio.current_time()
    assert await refused(caller) - asked < 0.1
    await caller.says(GET[:10])
    await trio.sleep(TOLD)
    is_over(house, others)
    await caller.hears(b"HTTP/1.1 408 ")
    assert await visit.ended() is Outcome.CLOSED
    assert visit.failures == ["overloaded", "overloaded", "request_timeout"]


async def test_what_lies_behind_a_refused_request_is_to_be_asked_again_elsewhere(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET + GET + GET)
    await refused(caller, close=True)
    assert await visit.ended() is Outcome.CLOSED
    assert visit.failures == ["overloaded"]


async def test_requests_behind_one_with_a_body_wait_their_time(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(POST + GET)
    was_refused = await refused(caller)
    assert SOONEST <= await refused(caller) - was_refused <= TOLD + 0.1
    assert visit.failures == ["overloaded"] * 2


@pytest.mark.parametrize("how", ["half_closes", "breaks"])
@pytest.mark.parametrize("asks", [True, False])
async def test_a_caller_that_leaves_while_it_is_put_off(
    house: House, settling_clock: MockClock, others: Others, how: str, *, asks: bool
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    was_refused = await refused(caller)
    if asks:
        await caller.says(GET)
    getattr(caller, how)()
    if how == "half_closes":
        if asks:
            await refused(caller)
        assert await caller.hears_end() == "notify"
    assert await visit.ended() is (Outcome.CLOSED if how == "half_closes" else Outcome.ABORTED)
    assert trio.current_time() - was_refused <= (TOLD + 0.1 if how == "half_closes" else 0.1)
    assert visit.failures == ["overloaded"] * (2 if asks and how == "half_closes" else 1)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_drain_lets_who_is_put_off_ask_once_more(
    house: House, settling_clock: MockClock, others: Others, *, asks: bool
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    was_refused = await refused(caller)
    if asks:
        await caller.says(GET)
    visit.driver.drain(0.5)
    if asks:
        await refused(caller, close=True)
    assert await caller.hears_end() == "notify"
    assert trio.current_time() - was_refused <= TOLD + 0.6
    assert await visit.ended() is Outcome.CLOSED


async def test_who_is_put_off_is_cut_when_its_certificate_ends(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller(valid_for=0.5)
    await caller.says(GET)
    was_refused = await refused(caller)
    assert await visit.ended() in {Outcome.AGED, Outcome.CLOSED}
    assert trio.current_time() - was_refused <= 1.1


async def test_who_is_put_off_is_cut_when_it_is_revoked(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    await refused(caller)
    visit.driver.revoke("because")
    assert await caller.hears_end() == "reset"
    assert await visit.ended() is Outcome.ABORTED


async def test_who_is_put_off_and_says_nothing_rests_as_anybody(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    caller, visit = await house.caller(patience=patience(head=2, idle=5))
    await caller.says(GET)
    was_refused = await refused(caller)
    assert await caller.hears_end() == "notify"
    assert 5 + SOONEST <= trio.current_time() - was_refused <= 6.5 + TOLD
    assert await visit.ended() is Outcome.CLOSED


async def test_what_was_sent_once_and_met_a_dead_connection_goes_on(house: House, settling_clock: MockClock) -> None:
    """Who was let in is not refused half-way."""
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await exchange_on(line, caller)
    await caller.says(GET)
    await line.hears(END)
    others = Others()
    house.pool.flight.pools.add(others)
    house.pool.flight.observe_memory(0.97)
    line.breaks()
    await exchange_on(await house.line(), caller)
    others.in_flight = 0
    assert visit.failures == ["", ""]
    assert visit.told[-1][0].resent


async def test_the_first_request_of_a_connection_is_let_in_and_the_next_is_not(
    house: House, settling_clock: MockClock, others: Others
) -> None:
    flight = lag_stands(house)
    assert (flight.is_bounded, flight.has_room(), flight.sheds) == (True, False, False)
    caller, visit = await house.caller()
    await caller.says(GET)
    await exchange_on(await house.line(), caller)
    await caller.says(GET)
    await refused(caller)
    assert visit.failures == ["", "overloaded"]
