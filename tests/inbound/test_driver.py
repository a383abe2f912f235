"""One HTTP connection driven on real sockets, real TLS, by both engines: bytes, bounds, deadlines, and every end."""

from __future__ import annotations

import hashlib
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.errors import Failure
from meshproxy.inbound.deadlines import Patience
from meshproxy.inbound.machinery import Outcome
from meshproxy.upstream.queue import NoUpstreamConnection
from meshproxy.wire.channel import PlainChannel, TlsChannel
from meshproxy.wire.ends import End, PeerEof
from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.splice import Held, Splice

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.inbound.conftest import House, Peer

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
DENIED = b"GET /no HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LATER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\nhi"
LATER_IN_PORTIONS = b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
END = b"\r\n\r\n"

MIB = 1 << 20


@pytest.fixture(params=["task", "no task"])
def house(house: House, request: pytest.FixtureRequest) -> House:
    """Whatever is promised of a connection holds as well for one that gets a task only when something takes time."""
    house.taskless = request.param == "no task"
    return house


# The clock is the same for both.
one_engine = pytest.mark.parametrize("engine", [EpollReadiness], ids=["epoll"], indirect=True)

# What may wait in one connection: a read, or two when one direction's answer meets the other's.
MOST_HELD = 2 * (256 + 64) * 1024


async def exchange(caller: Peer, line: Peer, said: bytes = GET) -> None:
    await caller.says(said)
    await line.hears(END)
    await line.says(OK)
    await caller.hears(b"hi")


def is_epoll(house: House) -> bool:
    return isinstance(house.engine, EpollReadiness)


async def test_requests_follow_each_other_over_one_upstream_connection(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    for _ in range(5):
        await line.hears(END)
        await line.says(OK)
        assert (await caller.hears(b"hi")).startswith(b"HTTP/1.1 200 OK\r\n")
        await caller.says(GET)
    assert house.dialled == 1
    assert [told.status for told, _ in visit.told] == [200] * 5
    assert all(upstream is not None and upstream.target == "service" for _, upstream in visit.told)


@pytest.mark.parametrize("far_tls", [False, True])
async def test_two_callers_share_the_pool(house: House, *, far_tls: bool) -> None:
    house.far_tls = far_tls
    one, _ = await house.caller()
    await one.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(OK)
    await one.hears(b"hi")
    two, _ = await house.caller()
    await exchange(two, line)
    assert house.dialled == 1


@pytest.mark.parametrize(
    ("answer", "goes_on_at"),
    [(OK, "the same"), (LATER, "the other"), (LATER_IN_PORTIONS, "the other")],
    ids=["ok", "later", "later, in portions"],
)
async def test_who_was_told_to_come_back_later_goes_elsewhere(house: House, answer: bytes, goes_on_at: str) -> None:
    """A sidecar that has refused a request does not read that connection for a while."""
    lines = []
    callers = [(await house.caller())[0] for _ in range(2)]
    for caller in callers:
        await caller.says(GET)
        lines.append(await house.line())
        await lines[-1].hears(END)
    for caller, line in zip(callers, lines, strict=True):
        await line.says(OK)
        await caller.hears(b"hi")
    await callers[0].says(GET)
    await lines[1].hears(END)  # the last used
    await lines[1].says(answer)
    await callers[0].hears(b"hi")
    if answer is LATER_IN_PORTIONS:
        await callers[0].hears(END)
    await callers[0].says(GET)
    await lines[1 if goes_on_at == "the same" else 0].hears(END)


async def test_pipelined_requests_are_answered_in_order(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET + DENIED + POST + b"hello" + GET)
    line = await house.line()
    for body in (b"=1", b"=2", b"=3"):
        await line.hears(b"x-mesh-client-id: spiffe://td/caller" + END)
        await line.says(OK.replace(b"hi", body))
    heard = await caller.hears(b"=3")
    assert heard.index(b"=1") < heard.index(b" 403 ") < heard.index(b"=2")
    assert [told.status for told, _ in visit.told] == [200, 403, 200, 200]


@pytest.mark.parametrize("far_tls", [False, True])
@pytest.mark.parametrize("small", [False, True])
async def test_bodies_are_byte_exact_both_ways(house: House, *, small: bool, far_tls: bool) -> None:
    """A slow reader on both ends, with kernel buffers of any size."""
    house.small, house.far_tls = small, far_tls
    rng = random.Random(7)
    up, down = rng.randbytes(MIB), rng.randbytes(MIB)
    caller, _ = await house.caller()
    most = 0

    async def ask() -> None:
        await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(up) + up)

    async def serve() -> None:
        nonlocal most
        line = await house.line()
        await line.hears(END)
        while len(line.heard) < len(up):
            assert await line.more()
            most = max(most, house.buffers.held)
        assert hashlib.sha256(line.heard).digest() == hashlib.sha256(up).digest()
        await line.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(down) + down)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(serve)
            await caller.hears(END)
            while len(caller.heard) < len(down):
                assert await caller.more()
                most = max(most, house.buffers.held)
    assert hashlib.sha256(caller.heard).digest() == hashlib.sha256(down).digest()
    assert most <= MOST_HELD


async def _fill(peer: Peer) -> int:
    """Say bytes until nobody takes any more; returns how many."""
    said = 0
    with trio.move_on_after(0.3):
        while True:
            await peer.says(bytes(65536))
            said += 65536
    return said


async def test_a_slow_caller_costs_one_bounded_remainder(house: House) -> None:
    house.small = True
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(b"HTTP/1.1 200 OK\r\n\r\n")
    said = 65536 + await _fill(line)
    assert 0 < house.buffers.held <= MOST_HELD
    # It goes on where it stood as soon as the caller reads.
    line.half_closes()
    with trio.fail_after(10):
        heard = await caller.hears(b"\r\n0\r\n\r\n")
    assert said - 65536 <= len(heard.replace(b"\r\n", b"")) + 65536
    assert [told.failure for told, _ in visit.told] == [None]


async def test_a_slow_service_costs_one_bounded_remainder(house: House) -> None:
    house.small = True
    caller, _ = await house.caller()
    await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    line = await house.line()
    await line.hears(END)
    said = await _fill(caller)
    assert 0 < house.buffers.held <= MOST_HELD
    with trio.fail_after(10):
        while len(line.heard) < said - MOST_HELD:
            assert await line.more()


async def test_who_asks_and_never_reads_costs_one_bounded_remainder(house: House) -> None:
    """Answers of our own cost the caller a few bytes each."""
    house.small = True
    caller, visit = await house.caller()
    asked = 0
    with trio.move_on_after(0.5):
        while True:
            await caller.says(DENIED * 200)
            asked += 200
    assert 0 < house.buffers.held <= MOST_HELD
    answered = len(visit.told)
    assert answered < asked
    with trio.fail_after(20):
        for _ in range(asked):
            assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 403 ")
    assert len(visit.told) >= asked


# An edge fires once.


async def test_requests_that_come_during_an_answer_are_not_forgotten(house: House) -> None:
    caller, _ = await house.caller()
    await caller.says(GET)
    line = await house.line()
    for number in range(20):
        await line.hears(END)
        await caller.says(GET)  # its edge fires while nobody wants it
        await trio.testing.wait_all_tasks_blocked(0.001)
        await line.says(OK.replace(b": 2", b": 3").replace(b"hi", b"=%02d" % number))
        await caller.hears(b"=%02d" % number)


async def test_an_end_that_comes_during_an_answer_is_not_forgotten(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    caller.half_closes()
    await trio.testing.wait_all_tasks_blocked(0.001)
    await line.says(OK)
    await caller.hears(b"hi")
    with trio.fail_after(5):
        assert await caller.hears_end() == "notify"
        assert await visit.ended() is Outcome.CLOSED
    assert visit.failures == [""]


async def test_a_request_and_its_end_in_one_edge_are_answered(house: House) -> None:
    for _ in range(10):
        caller, visit = await house.caller()
        await caller.says(POST + b"hello")
        caller.half_closes()
        line = await house.line()
        await line.hears(b"hello")
        await line.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        await caller.hears(b"hi")
        assert await caller.hears_end() == "notify"
        assert await visit.ended() is Outcome.CLOSED


async def test_requests_that_wait_behind_unread_answers_go_on_by_themselves(house: House) -> None:
    house.small = True
    caller, _ = await house.caller()
    await caller.says(DENIED * 300)
    await trio.testing.wait_all_tasks_blocked(0.01)
    with trio.fail_after(10):
        for _ in range(300):
            await caller.hears(b"}")
    await caller.says(DENIED)
    await caller.hears(b"}")


# Upstream connections that die.


@pytest.mark.parametrize(("asked", "resent"), [(GET, True), (POST + b"hello", False)])
async def test_a_resting_connection_that_dies_under_a_request(house: House, asked: bytes, *, resent: bool) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(OK)
    await caller.hears(b"hi")
    await caller.says(asked)
    await line.hears(END)
    line.breaks()
    if resent:
        again = await house.line()
        await again.hears(END)
        again.breaks()
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 502 ")
    assert visit.told[1][0].resent is resent
    assert house.dialled == 1 + resent


async def test_a_resting_connection_that_ends_is_not_used_again(house: House) -> None:
    caller, _ = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(OK)
    await caller.hears(b"hi")
    line.sock.close()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert repr(house.pool) == "<Pool resting=0/8>"
    await caller.says(POST + b"hello")
    again = await house.line()
    await again.hears(b"hello")


@pytest.mark.parametrize("far_tls", [False, True])
async def test_an_answer_and_the_end_in_one_edge_leave_nothing_to_reuse(house: House, *, far_tls: bool) -> None:
    """The next request, pipelined, must not be given to the dead: a POST would be lost."""
    house.far_tls = far_tls
    for _ in range(10):
        caller, visit = await house.caller()
        await caller.says(POST + b"hello" + POST + b"again")
        line = await house.line()
        await line.hears(b"hello")
        await line.says(OK)
        line.half_closes()
        again = await house.line()
        await again.hears(b"again")
        await again.says(OK)
        await caller.hears(b"hi")
        await caller.hears(b"hi")
        assert visit.failures == ["", ""]
        again.half_closes()
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_an_answer_before_its_request_is_taken_does_not_leave_half_a_request_behind(house: House) -> None:
    house.small = True
    caller, _ = await house.caller()
    await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n")
    line = await house.line()
    await line.hears(END)

    async def upload() -> None:
        await caller.says(bytes(300_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await line.says(OK)
        await caller.hears(b"hi")
        assert await line.hears_end() == "reset"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_an_answer_cut_short_is_cut_for_the_caller_too(house: House, how: str) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(OK[:-1])
    await caller.hears(b"\r\nh")
    line.breaks() if how == "reset" else line.half_closes()
    assert await caller.hears_end() == "reset"
    assert await visit.ended() is Outcome.ABORTED
    assert visit.failures == ["response_truncated"]


@pytest.mark.parametrize(("how", "end"), [("notify", "complete"), ("fin", "reset")])
async def test_an_answer_of_unknown_length_over_tls_needs_a_proper_end(house: House, how: str, end: str) -> None:
    house.far_tls = True
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(b"HTTP/1.1 200 OK\r\n\r\nhi")
    await caller.hears(b"hi")
    if how == "notify":
        line.half_closes()
        await caller.hears(b"\r\n0\r\n\r\n")
        assert visit.failures == [""]
    else:
        line.sock.shutdown(1)
        assert await caller.hears_end() == end
        assert b"0\r\n\r\n" not in caller.heard
        assert visit.failures == ["response_truncated"]


async def test_a_last_answer_ends_its_upstream_connection_properly(house: House) -> None:
    house.far_tls = True
    caller, _ = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    await caller.hears(b"hi")
    assert await line.hears_end() == "notify"


async def test_no_upstream_is_answered_and_the_connection_kept(house: House) -> None:
    house.failure = NoUpstreamConnection(Failure.CONNECT_REFUSED, "10.0.0.1:80: refused")
    caller, visit = await house.caller()
    await caller.says(GET + GET)
    for _ in range(2):
        assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 502 ")
    assert visit.told[0][0].detail == "10.0.0.1:80: refused"
    house.failure = None
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)


# Callers that leave.


async def test_a_caller_that_leaves_while_the_service_is_dialled(house: House) -> None:
    if not is_epoll(house):
        pytest.skip("the portable engine hears of it when it next reads or writes")
    house.hold = trio.Event()
    caller, visit = await house.caller()
    await caller.says(GET)
    await house.dialling.wait()
    caller.breaks()
    with trio.fail_after(5):
        assert await visit.ended() is Outcome.ABORTED
    assert visit.failures == ["client_gone"]
    assert house.dialled == 1


@pytest.mark.parametrize("said", [GET, POST + b"he"])
async def test_a_caller_that_breaks_off_takes_its_upstream_connection_along(house: House, said: bytes) -> None:
    if not is_epoll(house) and said is GET:
        pytest.skip("the portable engine hears of it when it next reads or writes")
    caller, visit = await house.caller()
    await caller.says(said)
    line = await house.line()
    await line.hears(END)
    caller.breaks()
    assert await line.hears_end() == "reset"
    assert await visit.ended() is Outcome.ABORTED
    assert visit.failures == ["client_gone"]


@pytest.mark.parametrize("length", [b"5\r\nX: ", b"70000\r\nX: "])
async def test_a_refusal_that_ends_the_connection_is_heard_by_who_still_talks(house: House, length: bytes) -> None:
    """Closing with unread bytes would make the kernel reset, and the reset destroy the answer."""
    caller, visit = await house.caller()
    await caller.says(b"POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: " + length + END)
    await caller.says(bytes(40_000))
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 403 ")
    assert await caller.hears_end() == "notify"
    caller.sock.close()
    assert await visit.ended() is Outcome.CLOSED


async def test_a_cancelled_connection_tells_its_exchange_and_leaves_nothing(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    visit.cut()
    await visit.ended()
    assert visit.failures == ["client_gone"]
    assert await line.hears_end() == "reset"
    assert await caller.hears_end() == "reset"


async def test_a_bug_ends_its_own_connection_only(house: House) -> None:
    caller, visit = await house.caller()
    other, _ = await house.caller()
    visit.bug = ZeroDivisionError("a bug")
    await caller.says(DENIED)
    await visit.ended()
    assert visit.error is visit.bug
    assert await caller.hears_end() == "reset"
    await other.says(DENIED)
    assert (await other.hears(b"}")).startswith(b"HTTP/1.1 403 ")


# Upgrade.


async def test_an_upgrade_hands_over_all_that_waits(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(UPGRADE + b"client first")
    line = await house.line()
    await line.hears(END)
    assert not line.heard  # what comes behind the offer waits for the answer to it
    await line.says(SWITCH + b"server first")
    await line.hears(b"client first")
    await caller.hears(END)
    await caller.hears(b"server first")
    assert await visit.ended() is Outcome.UPGRADED
    assert visit.told == []  # its story goes on
    upstream = visit.driver.upstream
    assert upstream is not None
    down, up = visit.driver._pump.down, upstream.channel
    assert isinstance(down, TlsChannel)
    assert isinstance(up, PlainChannel)
    for channel in (down, up):
        house.engine.forget(channel.sock)
    splice = Splice(house.engine, house.buffers, up.sock, down.tls, PeerEof.STRICT)
    try:
        splice.start(Held(up.release(), down.release()))
        await caller.says(b"ping")
        await line.hears(b"ping")
        await line.says(b"pong")
        await caller.hears(b"pong")
        caller.half_closes()
        assert await line.hears_end() == "fin"
        line.half_closes()
        assert await caller.hears_end() == "notify"
        await splice.done.wait()
        assert splice.result().end is End.CLEAN
    finally:
        splice.release()


async def test_bulk_right_behind_the_switch_is_left_to_the_splice(house: House) -> None:
    """More than one read of it, before the owner has had its turn to hand over: nobody may read on and forget."""
    bulk = random.Random(3).randbytes(MIB)
    caller, visit = await house.caller()
    await caller.says(UPGRADE)
    line = await house.line()
    await line.hears(END)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.says, SWITCH + bulk)
        await caller.hears(END)
        assert await visit.ended() is Outcome.UPGRADED
        upstream = visit.driver.upstream
        assert upstream is not None
        down, up = visit.driver._pump.down, upstream.channel
        assert isinstance(down, TlsChannel)
        for channel in (down, up):
            house.engine.forget(channel.sock)
        splice = Splice(house.engine, house.buffers, up.sock, down.tls, PeerEof.STRICT)
        try:
            splice.start(Held(up.release(), down.release()))
            with trio.fail_after(10):
                while len(caller.heard) < len(bulk):
                    assert await caller.more()
        finally:
            splice.release()
    assert hashlib.sha256(caller.heard).digest() == hashlib.sha256(bulk).digest()


async def test_an_upgraded_connection_that_is_cancelled_at_that_moment_is_still_told(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(UPGRADE)
    line = await house.line()
    await line.hears(END)
    end = visit.driver._pump._end

    def end_and_cancel(how: Outcome) -> None:
        visit.cut()
        end(how)

    visit.driver._pump._end = end_and_cancel  # type: ignore[method-assign]
    await line.says(SWITCH)
    await visit.ended()
    assert [told.upgraded for told, _ in visit.told] == [True]
    assert await line.hears_end() == "reset"


# Deadlines.


def patience(head: float = 50, idle: float = 50, response: float = 50, body_min_rate: int = 0) -> Patience:
    return Patience(head, idle, response, body_min_rate)


@one_engine
async def test_a_head_has_so_much_time_in_all(house: House, settling_clock: MockClock) -> None:
    """However many bytes come in between."""
    caller, visit = await house.caller(patience=patience(head=3))
    started = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in GET[:-1]:
                await caller.says(bytes([byte]))
                await trio.sleep(0.5)

        nursery.start_soon(drip)
        assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 408 ")
        nursery.cancel_scope.cancel()
    assert 3 <= trio.current_time() - started <= 4.5
    assert visit.failures == ["request_timeout"]
    assert await caller.hears_end() == "notify"


@one_engine
async def test_who_connects_and_asks_nothing_is_sent_away(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(head=3))
    assert await caller.hears_end() == "notify"
    assert 3 <= trio.current_time() <= 4.5
    assert (await visit.ended(), visit.told) == (Outcome.CLOSED, [])


@one_engine
async def test_who_rests_longer_than_idle_is_sent_away(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(head=2, idle=5))
    for _ in range(3):
        await caller.says(DENIED)
        await caller.hears(b"}")
        await trio.sleep(4)  # each request begins the rest anew
    last = trio.current_time() - 4
    assert await caller.hears_end() == "notify"
    assert 5 <= trio.current_time() - last <= 6.5
    assert visit.failures == ["denied"] * 3


@one_engine
@pytest.mark.parametrize("talks", [True, False])
async def test_who_is_sent_away_and_does_not_leave_is_left_within_a_second_or_so(
    house: House, settling_clock: MockClock, *, talks: bool
) -> None:
    caller, visit = await house.caller(patience=patience(idle=5))
    await caller.says(DENIED.replace(b"1.1\r\n", b"1.1\r\nConnection: close\r\n") if talks else DENIED)
    assert await caller.hears_end() == "notify"
    sent_away = trio.current_time()
    with suppress(OSError):
        for _ in range(1_000_000 if talks else 0):  # longer than anybody listens
            await caller.says(b"x" * 1000)
    assert await visit.ended() is Outcome.CLOSED
    assert trio.current_time() - sent_away <= 2


@one_engine
async def test_each_pipelined_request_has_its_own_time_for_an_answer(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(response=4))
    await caller.says(GET + GET + GET)
    line = await house.line()
    for _ in range(2):
        await line.hears(END)
        await trio.sleep(3)
        await line.says(OK)
        await caller.hears(b"hi")
    asked = trio.current_time()
    assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 504 ")
    assert 4 <= trio.current_time() - asked <= 5.5
    assert visit.failures == ["", "", "response_timeout"]


@one_engine
async def test_a_body_slower_than_the_minimum_is_cut(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(body_min_rate=100))
    await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n")
    line = await house.line()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            for _ in range(100):
                await caller.says(bytes(20))
                await trio.sleep(1)

        nursery.start_soon(drip)
        assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 408 ")
        nursery.cancel_scope.cancel()
    assert visit.failures == ["request_timeout"]
    assert await line.hears_end() == "reset"


@one_engine
async def test_a_body_of_the_minimum_rate_is_not_cut(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(body_min_rate=100))
    await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2600\r\n\r\n")
    line = await house.line()
    for _ in range(13):
        await caller.says(bytes(200))
        await trio.sleep(1)
    await line.hears(bytes(2600))
    await line.says(OK)
    await caller.hears(b"hi")
    assert visit.failures == [""]


@one_engine
async def test_who_waits_for_100_is_not_taken_for_slow(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(response=20, body_min_rate=100))
    await caller.says(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    line = await house.line()
    await trio.sleep(12)
    await line.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    await caller.hears(END)
    await caller.says(b"hello")
    await line.hears(b"hello")
    await line.says(OK)
    await caller.hears(b"hi")
    assert visit.failures == [""]


@one_engine
async def test_a_service_that_stops_taking_the_body_is_what_took_too_long(
    house: House, settling_clock: MockClock
) -> None:
    house.small = True
    caller, visit = await house.caller(patience=patience(idle=20, body_min_rate=100))
    await caller.says(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n")
    line = await house.line()
    async with trio.open_nursery() as nursery:

        async def upload() -> None:
            await caller.says(bytes(600_000))

        nursery.start_soon(upload)
        assert (await caller.hears(b"}")).startswith(b"HTTP/1.1 504 ")
        nursery.cancel_scope.cancel()
    assert visit.driver._pump.relay.exchange.failure is Failure.RESPONSE_TIMEOUT
    assert await line.hears_end() == "reset"


@one_engine
async def test_an_answer_that_stands_still_is_cut_after_idle(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(patience=patience(idle=5))
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(3):
        await trio.sleep(4)
        await line.says(b"moves")
    assert await caller.hears_end() == "reset"
    assert 16 < trio.current_time() < 25
    assert visit.failures == ["response_truncated"]


@one_engine
async def test_a_caller_that_reads_its_last_answer_slowly_is_not_cut_while_it_reads(
    house: House, settling_clock: MockClock
) -> None:
    house.small = True
    caller, visit = await house.caller(patience=patience(idle=30, body_min_rate=100))
    await caller.says(GET.replace(b"1.1\r\n", b"1.1\r\nConnection: close\r\n"))
    line = await house.line()
    await line.hears(END)
    body = random.Random(1).randbytes(60_000)

    async def answer() -> None:
        await line.says(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + body)

    house.nursery.start_soon(answer)
    while len(caller.heard) < 60_000:
        await trio.sleep(1)
        if not await caller.more():
            break
    assert caller.heard.endswith(body)
    assert await caller.hears_end() == "notify"
    assert trio.current_time() > 10.5
    assert await visit.ended() is Outcome.CLOSED


@one_engine
async def test_a_caller_that_does_not_read_its_last_answer_is_cut(house: House, settling_clock: MockClock) -> None:
    house.small = True
    caller, visit = await house.caller(patience=patience(idle=5))
    await caller.says(DENIED * 150 + DENIED.replace(b"1.1\r\n", b"1.1\r\nConnection: close\r\n"))
    with trio.fail_after(60):
        assert await visit.ended() in {Outcome.ABORTED, Outcome.CLOSED}
    assert await caller.hears_end() == "reset"


@one_engine
async def test_a_drain_ends_an_idle_connection_after_its_grace(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller()
    await caller.says(DENIED)
    await caller.hears(b"}")
    started = trio.current_time()
    visit.driver.drain(4)
    visit.driver.drain(100)  # the earlier call holds
    assert await caller.hears_end() == "notify"
    assert 4 <= trio.current_time() - started < 5.5
    assert await visit.ended() is Outcome.CLOSED


@one_engine
async def test_a_drain_lets_the_next_answer_be_the_last(house: House) -> None:
    caller, visit = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    visit.driver.drain(4)
    await line.says(OK)
    assert b"Connection: close" in await caller.hears(b"hi")
    assert await caller.hears_end() == "notify"
    caller.sock.close()
    assert await visit.ended() is Outcome.CLOSED


@one_engine
async def test_before_a_certificate_expires_the_connection_ends_politely(
    house: House, settling_clock: MockClock
) -> None:
    idle, idle_visit = await house.caller(valid_for=20)
    busy, busy_visit = await house.caller(valid_for=20)
    for caller in (idle, busy):
        await caller.says(DENIED)
        await caller.hears(b"}")
    await trio.sleep(11)
    await busy.says(DENIED)
    assert b"Connection: close" in await busy.hears(b"}")
    assert await idle.hears_end() == "notify"
    assert trio.current_time() < 17
    assert (await idle_visit.ended(), await busy_visit.ended()) == (Outcome.CLOSED, Outcome.CLOSED)


@one_engine
async def test_when_a_certificate_expires_the_connection_is_cut(house: House, settling_clock: MockClock) -> None:
    caller, visit = await house.caller(valid_for=20)
    await caller.says(GET)
    line = await house.line()
    await line.hears(END)
    await line.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    assert await caller.hears_end() == "reset"
    assert await line.hears_end() == "reset"
    assert 20 <= trio.current_time() < 21.5
    assert await visit.ended() is Outcome.AGED
    assert visit.failures == ["client_gone"]


# All at once.


class Crowd:
    """Callers that ask and services that answer, both with a die; each answer repeats what was asked."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.rng = random.Random(seed)
        self.right = self.wrong = 0

    async def serve(self, line: Peer) -> None:
        try:
            while self.rng.random() < 0.9:
                token = (await line.hears(END)).partition(b"/a?")[2].partition(b" ")[0]
                body = hashlib.sha256(token).hexdigest().encode() * self.rng.choice([1, 50, 3000])
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                if self.rng.random() < 0.1:
                    await line.says(answer[: self.rng.randrange(len(answer))])
                    break
                await line.says(answer)
        except (AssertionError, OSError):
            pass
        line.breaks()

    async def ask(self, number: int) -> None:
        caller, visit = await self.house.caller()
        try:
            for turn in range(self.rng.randrange(1, 12)):
                token = b"%d-%d" % (number, turn)
                await caller.says(GET.replace(b"/a", b"/a?" + token))
                if self.rng.random() < 0.05:
                    break
                await self.read_answer(caller, hashlib.sha256(token).hexdigest().encode())
        except (AssertionError, OSError):
            pass
        caller.breaks()
        if not is_epoll(self.house):
            visit.cut()  # the portable engine hears of it when it next reads or writes
        with trio.fail_after(10):
            await visit.done.wait()

    async def read_answer(self, caller: Peer, digest: bytes) -> None:
        head = await caller.hears(END)
        if b" 200 " not in head:
            await caller.hears(b"}")
            return
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])
        while len(caller.heard) < length:
            assert await caller.more()
        if caller.heard[:length] == digest * (length // 64):
            self.right += 1
        else:
            self.wrong += 1
        del caller.heard[:length]


async def test_a_crowd_of_callers_gets_its_own_answers_and_nobody_elses(house: House) -> None:
    """Random sizes and portions; callers and upstream connections break off in between."""
    crowd = Crowd(house, 5)
    async with trio.open_nursery() as nursery:

        async def take_lines() -> None:
            async for line in house.lines:
                nursery.start_soon(crowd.serve, line)

        nursery.start_soon(take_lines)
        async with trio.open_nursery() as callers:
            for number in range(60):
                callers.start_soon(crowd.ask, number)
        nursery.cancel_scope.cancel()
    assert crowd.wrong == 0
    assert crowd.right > 100
