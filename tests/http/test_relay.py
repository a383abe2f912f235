"""The exchange, as screenplays: who says what, and what is heard on the other side."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import Failure
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.head import HeadLimits, RequestHead, ResponseHead
from meshproxy.http.kept import Memory
from meshproxy.http.phase import Need, Phase
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Grant, Refusal, Terms
from tests.http.screenplay import LIMITS, Play
from tests.http.texts import fields_in, is_complete_with

if TYPE_CHECKING:
    from collections.abc import Callable

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
DENIED = b"GET /no HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
OK_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"
OK_UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhi"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"


def answers(down: bytes, *asked: bytes, ended: bool = False) -> list[tuple[int, bytes]]:
    """What a strict client reads: statuses and bodies of complete answers to such methods."""
    reader = ResponseReader(LIMITS)
    reader.feed(down)
    read: list[tuple[int, bytes]] = []
    for method in asked:
        reader.expect(method)
        status, body = 0, b""
        while True:
            event = reader.next()
            if event is None:
                if not ended:
                    return read
                reader.eof()
                event = reader.next()
                if event is None:
                    return read
            if isinstance(event, ResponseHead):
                status = event.status
            else:
                body += event.payload
            if is_complete_with(event):
                read.append((status, body))
                break
    assert not reader.buffered
    return read


def requests(up: bytes) -> list[tuple[bytes, bytes]]:
    """The complete requests a strict service reads: methods and bodies."""
    reader = RequestReader(HeadLimits())
    reader.feed(up)
    read: list[tuple[bytes, bytes]] = []
    method, body = b"", b""
    while (event := reader.next()) is not None:
        if isinstance(event, RequestHead):
            method, body = event.method, b""
        else:
            body += event.payload
        if is_complete_with(event):
            read.append((method, body))
    return read


# One exchange, both ways.


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("asked", "reaches", "answer", "answered"),
    [
        (GET, (b"GET", b""), OK, (200, b"hi")),
        (POST + b"hello", (b"POST", b"hello"), OK, (200, b"hi")),
        (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", (b"POST", b"hello"), OK_CHUNKED, (200, b"hi")),
        (POST.replace(b"5", b"0"), (b"POST", b""), OK, (200, b"hi")),
        (CHUNKED + b"0\r\n\r\n", (b"POST", b""), b"HTTP/1.1 204 None\r\n\r\n", (204, b"")),
        (GET, (b"GET", b""), b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", (304, b"")),
        (HEAD, (b"HEAD", b""), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", (200, b"")),
        (GET, (b"GET", b""), CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, (200, b"hi")),
        (GET, (b"GET", b""), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (200, b"")),
    ],
)
def test_an_exchange_passes_in_any_portions_and_both_connections_are_kept(
    step: int, asked: bytes, reaches: tuple[bytes, bytes], answer: bytes, answered: tuple[int, bytes]
) -> None:
    play = Play()
    head_end = asked.index(b"\r\n\r\n") + 4
    for start in range(0, head_end, step):
        play.says(asked[start : min(start + step, head_end)])
    assert play.new_needs() == [Need.UPSTREAM]
    play.gets()
    for start in range(head_end, len(asked), step):
        play.says(asked[start : start + step])
    assert requests(play.up) == [reaches]
    assert play.stands() is Phase.AWAITING
    for start in range(0, len(answer), step):
        play.hears(answer[start : start + step])
    assert answers(play.down, reaches[0]) == [answered]
    assert play.new_needs() == [Need.RELEASE_UPSTREAM]
    assert play.stands() is Phase.IDLE
    [told] = play.told
    assert (told.status, told.failure, told.bytes_in, told.bytes_out) == (
        answered[0],
        None,
        len(reaches[1]),
        len(answered[1]),
    )


def test_trailers_pass_both_ways_without_those_that_could_speak_for_the_caller() -> None:
    play = Play().says(CHUNKED + b"0\r\nX-Sum: 1\r\nX-Mesh-Client-Id: me\r\n\r\n").gets().hears(OK_CHUNKED)
    assert b"\r\n0\r\nX-Sum: 1\r\n\r\n" in b"\r\n" + play.up
    assert b": me" not in play.up
    assert play.down.endswith(b"\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_a_body_streams_while_the_answer_does() -> None:
    play = Play().says(CHUNKED).gets().says(b"2\r\nhe\r\n")
    assert play.up.endswith(b"2\r\nhe\r\n")
    play.hears(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHE\r\n")
    assert play.down.endswith(b"2\r\nHE\r\n")
    assert play.relay.wants_downstream
    play.says(b"3\r\nllo\r\n0\r\n\r\n")
    assert requests(play.up) == [(b"POST", b"hello")]
    play.hears(b"3\r\nLLO\r\n0\r\n\r\n")
    assert answers(play.down, b"POST") == [(200, b"HELLO")]
    # That the body would end was not known when the answer began.
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.CLOSE]


# Keep-alive, pipelining, and the bounds on it.


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    play = Play().says(GET + POST + b"hello" + DENIED + GET)
    seen = []
    for method in (b"GET", b"POST", b"GET"):
        play.gets().hears(OK.replace(b"hi", method[:2]))
        seen += requests(play.up)
    assert seen == [(b"GET", b""), (b"POST", b"hello"), (b"GET", b"")]
    assert [status for status, _ in answers(play.down, b"GET", b"POST", b"GET", b"GET")] == [200, 200, 403, 200]
    assert len({told.request_id for told in play.told}) == 4
    assert not play.relay.exchange.failure


def test_a_thousand_denied_requests_at_once_are_answered_in_bounded_portions() -> None:
    play = Play(most_pipelined=1000)
    relay = play.relay
    relay.feed(DENIED * 1000, 0.0)
    most = turns = 0
    while True:
        most = max(most, sum(map(len, relay.to_downstream)))
        play.down += b"".join(relay.to_downstream)
        relay.to_downstream.clear()
        if not relay.held_back:
            break
        assert not relay.wants_downstream
        turns += 1
        relay.proceed(0.0)
    assert answers(play.down, *[b"GET"] * 1000) == [(403, body) for _, body in answers(play.down, *[b"GET"] * 1000)]
    assert len(relay.finished) == 1000
    assert turns > 10
    assert most < 16 * 1024 + 1024


def test_what_follows_the_last_request_is_not_a_request() -> None:
    play = Play().says(LAST + GET).gets().hears(OK)
    assert b"Connection: close" in play.down
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.CLOSE]
    play.says(GET)
    assert (play.new_needs(), play.stands(), len(play.told)) == ([], Phase.OVER, 1)


def test_an_empty_line_between_requests_is_no_request() -> None:
    play = Play().says(GET).gets().hears(OK).says(b"\r")
    play.says(b"\n")
    assert play.stands() is Phase.IDLE
    play.caller_ends()
    assert (play.new_needs()[-1], len(play.told)) == (Need.CLOSE, 1)


# HTTP/1.0, and answers whose end is the end of the stream.


def test_an_old_client_gets_a_chunked_answer_until_close() -> None:
    play = Play().says(OLD).gets().hears(CONTINUE + OK_CHUNKED)
    assert b"chunked" not in play.down
    assert answers(play.down, b"GET", ended=True) == [(200, b"hi")]
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.CLOSE]


def test_an_answer_until_close_is_chunked_for_who_knows_chunks() -> None:
    play = Play().says(GET).gets().hears(OK_UNTIL_CLOSE)
    assert answers(play.down, b"GET") == []
    play.upstream_ends(clean=True)
    assert answers(play.down, b"GET") == [(200, b"hi")]
    assert play.new_needs() == [Need.UPSTREAM, Need.CLOSE_UPSTREAM]
    assert play.stands() is Phase.IDLE


@pytest.mark.parametrize("asked", [GET, OLD])
def test_an_answer_until_close_that_anybody_may_have_cut_does_not_look_complete(asked: bytes) -> None:
    play = Play().says(asked).gets().hears(OK_UNTIL_CLOSE).upstream_ends(clean=False)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT]
    assert not play.down.endswith(b"0\r\n\r\n")
    assert [told.failure for told in play.told] == [Failure.RESPONSE_TRUNCATED]


def test_a_bare_end_behind_a_complete_answer_is_an_end() -> None:
    play = Play().says(GET).gets().hears(OK).upstream_ends(clean=False)
    assert answers(play.down, b"GET") == [(200, b"hi")]
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: 1\r\n",
    ],
)
@pytest.mark.parametrize("end", [Play.upstream_ends, Play.upstream_breaks, Play.waits])
def test_an_answer_that_ends_too_early_does_not_look_complete(answer: bytes, end: Callable[[Play], Play]) -> None:
    play = end(Play().says(GET).gets().hears(answer))
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT]
    assert answers(play.down, b"GET") == []
    [told] = play.told
    assert (told.status, told.failure) == (200, Failure.RESPONSE_TRUNCATED)


# What becomes of the upstream connection.


@pytest.mark.parametrize(
    ("asked", "answer", "becomes"),
    [
        (GET, OK, Need.RELEASE_UPSTREAM),
        (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", Need.CLOSE_UPSTREAM),
        (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Need.CLOSE_UPSTREAM),
        (GET, OK + OK, Need.DROP_UPSTREAM),
        (GET, OK + b"\r\n", Need.DROP_UPSTREAM),
        (HEAD, OK, Need.DROP_UPSTREAM),
        (POST, EARLY, Need.DROP_UPSTREAM),
    ],
)
def test_only_a_clean_connection_is_kept(asked: bytes, answer: bytes, becomes: Need) -> None:
    play = Play().says(asked).gets().hears(answer)
    assert play.new_needs()[1] is becomes
    assert len(answers(play.down.partition(b"\r\nHTTP/1.1 ")[0], asked.split()[0])) == 1


def test_a_second_answer_nobody_asked_for_reaches_nobody() -> None:
    play = Play().says(GET + GET).gets().hears(OK + OK.replace(b"hi", b"XX"))
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.UPSTREAM]
    play.gets().hears(OK)
    assert answers(play.down, b"GET", b"GET") == [(200, b"hi"), (200, b"hi")]


# 100 Continue.


def test_who_expects_100_gets_the_services_own() -> None:
    play = Play().says(EXPECTING).gets()
    assert b"Expect: 100-continue" in play.up
    assert play.stands() is Phase.EXPECTING
    assert play.relay.wants_downstream
    play.hears(CONTINUE)
    assert play.down.startswith(b"HTTP/1.1 100 ")
    assert play.stands() is Phase.BODY
    play.says(b"hello").hears(OK)
    assert requests(play.up) == [(b"POST", b"hello")]
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM]


def test_who_expects_100_need_not_wait() -> None:
    play = Play().says(EXPECTING + b"he").gets()
    assert play.stands() is Phase.BODY
    play.says(b"llo").hears(OK)
    assert requests(play.up) == [(b"POST", b"hello")]


@pytest.mark.parametrize("body", [b"", b"he"])
def test_an_early_answer_ends_both_connections(body: bytes) -> None:
    play = Play().says(EXPECTING + body).gets().hears(EARLY)
    assert b"Connection: close" in play.down
    assert answers(play.down, b"POST") == [(413, b"")]
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.CLOSE]


def test_who_expects_100_and_is_denied_may_not_go_on() -> None:
    play = Play().says(EXPECTING.replace(b"/a", b"/no"))
    assert (play.statuses(), play.new_needs()) == ([403], [Need.CLOSE])
    assert b"Connection: close" in play.down


def test_a_service_that_never_says_100_is_what_took_too_long() -> None:
    play = Play().says(EXPECTING).gets().waits()
    assert (play.statuses(), play.told[0].failure) == ([504], Failure.RESPONSE_TIMEOUT)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.CLOSE]


def test_interim_answers_do_not_go_on_for_ever() -> None:
    play = Play().says(GET).gets().hears(CONTINUE * 100_000)
    assert play.statuses()[-1] == 502
    assert len(play.down) < 4096
    assert play.told[0].failure is Failure.UPSTREAM_PROTOCOL


# Upgrade.


def test_an_upgrade_hands_over_what_came_behind_it_on_both_sides() -> None:
    play = Play().says(UPGRADE + b"client first").gets().hears(SWITCH + b"server first")
    assert play.down.startswith(b"HTTP/1.1 101 ")
    assert play.down.endswith(b"\r\n\r\nserver first")
    assert play.up.endswith(b"\r\n\r\nclient first")
    assert play.new_needs() == [Need.UPSTREAM, Need.UPGRADE]
    assert (play.stands(), play.relay.wants_downstream, play.told) == (Phase.UPGRADED, False, [])
    assert play.relay.exchange.upgraded
    # From now on it is somebody else's; whatever is still said here changes nothing.
    play.caller_breaks().upstream_breaks().caller_ends().waits()
    assert (play.new_needs(), play.told) == ([], [])


@pytest.mark.parametrize(
    ("asked", "switch"),
    [
        (GET, SWITCH),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (UPGRADE, SWITCH.replace(b"websocket", b"h2c")),
        (UPGRADE, SWITCH.replace(b"websocket", b"another")),
        (UPGRADE.replace(b"GET", b"POST").replace(b"Host: h", b"Host: h\r\nContent-Length: 5"), SWITCH),
    ],
)
def test_a_switch_nobody_offered_is_a_faulty_answer(asked: bytes, switch: bytes) -> None:
    play = Play().says(asked).gets().hears(switch)
    assert (play.statuses(), play.relay.exchange.failure) == ([502], Failure.UPSTREAM_PROTOCOL)


def test_an_upgrade_that_is_denied_reaches_nobody() -> None:
    play = Play().says(UPGRADE.replace(b"/a", b"/no"))
    assert (play.statuses(), play.up, play.new_needs()) == ([403], b"", [])


def test_an_offer_may_be_declined() -> None:
    play = Play().says(UPGRADE).gets().hears(OK)
    assert (play.statuses(), play.stands()) == ([200], Phase.IDLE)


# Denial.


def test_a_denied_request_leaves_the_connection_to_the_next() -> None:
    play = Play().says(DENIED + GET)
    assert (play.statuses(), play.new_needs()) == ([403], [Need.UPSTREAM])
    assert b"Connection: close" not in play.down


@pytest.mark.parametrize("body", [b"hello", b"x" * 65536])
def test_a_denied_body_is_thrown_away_and_the_connection_kept(body: bytes) -> None:
    head = b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
    play = Play().says(head + body[:3])
    assert play.statuses() == [403]  # at once: not only when the body has come
    assert play.stands() is Phase.DISCARDING
    play.says(body[3:] + DENIED)
    assert (play.statuses(), play.stands(), play.new_needs()) == ([403, 403], Phase.IDLE, [])


def test_a_denied_body_that_is_too_long_to_read_ends_the_connection_with_the_answer() -> None:
    play = Play().says(b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n")
    assert b"Connection: close" in play.down
    assert (play.statuses(), play.new_needs()) == ([403], [Need.CLOSE])


def test_a_denied_body_without_end_ends_the_connection() -> None:
    play = Play().says(b"POST /no HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        play.says(b"800\r\n" + bytes(2048) + b"\r\n")
    assert (play.statuses(), play.new_needs(), len(play.told)) == ([403], [Need.CLOSE], 1)


@pytest.mark.parametrize("end", [lambda play: play.says(b"zz\r\n"), Play.caller_ends, Play.waits])
def test_a_denied_body_that_goes_wrong_is_not_answered_twice(end: Callable[[Play], Play]) -> None:
    """A second answer would be taken for the answer to the next request."""
    play = Play().says(b"POST /no HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
    end(play.says(b"llo\r\n"))
    assert (play.statuses(), play.new_needs()) == ([403], [Need.CLOSE])
    assert [told.failure for told in play.told] == [Failure.DENIED]


def test_the_answer_to_a_denied_head_has_no_body() -> None:
    play = Play().says(DENIED.replace(b"GET", b"HEAD") + DENIED)
    assert [status for status, _ in answers(play.down, b"HEAD", b"GET")] == [403, 403]


# Bytes that are no HTTP.


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"GET /a HTTP/1.1\nHost: h\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n", 417),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /a HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01", 400),
    ],
)
@pytest.mark.parametrize("before", [b"", DENIED])
def test_what_is_no_request_is_refused_and_ends_the_connection(bad: bytes, status: int, before: bytes) -> None:
    play = Play().says(before + bad)
    assert play.statuses() == ([403, status] if before else [status])
    assert b"Connection: close" in play.down
    assert (b"\r\nAllow: \r\n" in play.down) is (status == 405)  # RFC 9110 section 15.5.6
    assert play.new_needs() == [Need.CLOSE]
    assert play.told[-1].request_id
    assert (play.told[-1].status, play.told[-1].head) == (status, None)
    play.says(GET)
    assert (play.new_needs(), len(play.told)) == ([], len(play.statuses()))


def test_a_faulty_body_is_not_completed_upstream() -> None:
    play = Play().says(CHUNKED).gets().says(b"2\r\nhe\r\nzz\r\n")
    assert requests(play.up) == []
    assert (play.statuses(), play.told[0].failure) == ([400], Failure.BAD_REQUEST)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.CLOSE]


def test_a_faulty_body_under_an_answer_cuts_the_answer() -> None:
    play = Play().says(CHUNKED).gets().hears(OK[:-1]).says(b"zz\r\n")
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT]
    assert len(play.told) == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000,
        b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_what_is_no_answer_becomes_502(bad: bytes) -> None:
    play = Play().says(GET).gets().hears(bad)
    assert (play.statuses(), play.told[0].failure) == ([502], Failure.UPSTREAM_PROTOCOL)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM]
    assert play.stands() is Phase.IDLE


def test_a_faulty_chunk_of_an_answer_cuts_it() -> None:
    play = Play().says(GET).gets().hears(OK_CHUNKED[:-20] + b"zz\r\n")
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT]


# Upstreams that fail.


def test_no_upstream_is_told_and_the_connection_goes_on() -> None:
    play = Play().says(GET + GET)
    play.relay.upstream_failed(Failure.CONNECT_REFUSED, "nobody there", 0.0)
    play.collected()
    assert (play.statuses(), play.new_needs()) == ([502], [Need.UPSTREAM, Need.UPSTREAM])
    assert b"nobody" not in play.down


@pytest.mark.parametrize("loss", [Play.upstream_ends, Play.upstream_breaks])
@pytest.mark.parametrize(
    ("asked", "again"),
    [
        (GET, True),
        (HEAD, True),
        (GET.replace(b"GET", b"OPTIONS"), True),
        (GET.replace(b"GET", b"DELETE"), False),
        (POST + b"hello", False),
        (POST.replace(b"POST", b"GET") + b"hello", False),
    ],
)
def test_a_safe_request_is_sent_again_once_when_a_resting_connection_was_dead(
    loss: Callable[[Play], Play], asked: bytes, *, again: bool
) -> None:
    play = loss(Play().says(asked).gets(reused=True))
    if not again:
        assert (play.statuses(), play.new_needs()) == ([502], [Need.UPSTREAM, Need.DROP_UPSTREAM])
        return
    first = play.up
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.FRESH_UPSTREAM]
    assert (play.down, play.stands()) == (b"", Phase.CONNECTING)
    play.gets(reused=True)
    assert play.up == first
    loss(play)
    assert (play.statuses(), play.told[0].failure) == ([502], Failure.UPSTREAM_CLOSED)
    assert play.told[0].resent


def test_a_fresh_connection_that_breaks_is_not_the_pools_fault() -> None:
    play = Play().says(GET).gets(reused=False).upstream_breaks()
    assert (play.statuses(), play.new_needs()) == ([502], [Need.UPSTREAM, Need.DROP_UPSTREAM])


@pytest.mark.parametrize("said", [b"H", CONTINUE])
def test_what_was_answered_at_all_is_not_sent_again(said: bytes) -> None:
    play = Play().says(GET).gets(reused=True).hears(said).upstream_breaks()
    assert play.statuses()[-1] == 502
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM]


def test_an_upstream_lost_in_the_body_is_told_and_the_rest_thrown_away() -> None:
    play = Play().says(POST + b"he").gets().upstream_breaks()
    assert (play.statuses(), play.stands()) == ([502], Phase.DISCARDING)
    play.says(b"llo" + GET)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.UPSTREAM]


def test_after_a_lost_upstream_what_was_pipelined_goes_on() -> None:
    play = Play().says(GET + DENIED).gets().upstream_breaks()
    assert play.statuses() == [502, 403]


# Time.


@pytest.mark.parametrize(
    ("before", "status", "failure", "needs"),
    [
        (lambda play: play, [], None, [Need.CLOSE]),
        (lambda play: play.says(GET[:9]), [408], Failure.REQUEST_TIMEOUT, [Need.CLOSE]),
        (lambda play: play.says(GET), [504], Failure.CONNECT_TIMEOUT, [Need.UPSTREAM]),
        (
            lambda play: play.says(POST).gets(),
            [408],
            Failure.REQUEST_TIMEOUT,
            [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.CLOSE],
        ),
        (lambda play: play.says(GET).gets(), [504], Failure.RESPONSE_TIMEOUT, [Need.UPSTREAM, Need.DROP_UPSTREAM]),
        (
            lambda play: play.says(GET).gets().hears(OK[:-1]),
            [200],
            Failure.RESPONSE_TRUNCATED,
            [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT],
        ),
        (
            lambda play: play.says(POST).gets().upstream_breaks(),
            [502],
            Failure.UPSTREAM_CLOSED,
            [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.CLOSE],
        ),
    ],
    ids=["idle", "head", "connecting", "body", "awaiting", "answering", "discarding"],
)
def test_each_phase_has_its_own_timeout(
    before: Callable[[Play], Play], status: list[int], failure: Failure | None, needs: list[Need]
) -> None:
    play = before(Play()).waits()
    # A need that nobody had taken up is withdrawn.
    assert (play.statuses(), play.new_needs()) == (status, needs)
    assert [told.failure for told in play.told] == ([failure] if failure else [])
    assert all(told.request_id for told in play.told)


def test_after_a_timeout_what_was_pipelined_goes_on() -> None:
    assert Play().says(GET + DENIED).gets().waits().statuses() == [504, 403]
    assert Play().says(GET + DENIED).waits().statuses() == [504, 403]


def test_an_upstream_that_does_not_take_the_body_is_what_took_too_long() -> None:
    play = Play().says(POST + b"he").gets()
    play.relay.upstream_stalled(0.0)
    play.collected()
    assert (play.statuses(), play.stands()) == ([504], Phase.DISCARDING)
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM]


# Callers that leave.


@pytest.mark.parametrize(
    ("before", "needs", "told"),
    [
        (lambda play: play, [Need.ABORT], 0),
        (lambda play: play.says(GET[:9]), [Need.ABORT], 1),
        (lambda play: play.says(GET), [Need.UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(POST + b"he").gets(), [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(EXPECTING).gets(), [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(GET).gets(), [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(GET).gets().hears(OK[:-1]), [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(GET).gets().hears(OK), [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.ABORT], 1),
        (lambda play: play.says(LAST).gets().hears(OK), [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.CLOSE], 1),
        (lambda play: play.says(POST.replace(b"/a", b"/no")), [Need.ABORT], 1),
    ],
    ids=["idle", "head", "connecting", "body", "expecting", "awaiting", "answering", "after", "over", "discarding"],
)
def test_a_caller_may_break_off_in_any_phase(before: Callable[[Play], Play], needs: list[Need], told: int) -> None:
    play = before(Play()).caller_breaks()
    assert (play.new_needs(), play.stands(), len(play.told)) == (needs, Phase.OVER, told)
    assert requests(play.up) in ([], [(b"GET", b"")])
    # Nothing wakes it up again.
    play.says(GET).hears(OK).upstream_ends().waits().caller_ends().caller_breaks()
    assert (play.new_needs(), len(play.told)) == ([], told)


def test_a_wish_for_an_upstream_dies_with_its_caller() -> None:
    """The answer before could not be sent, in the same turn that the next request asked for an upstream."""
    play = Play().says(GET + GET).gets()
    play.new_needs()
    play.relay.feed_response(OK, 0.0)
    play.relay.downstream_lost("the answer could not be sent", 0.0)
    assert play.collected().new_needs() == [Need.RELEASE_UPSTREAM, Need.ABORT]


def test_a_caller_that_half_closes_still_gets_its_answer() -> None:
    play = Play().says(GET).gets().caller_ends()
    assert not play.relay.wants_downstream
    play.hears(OK)
    assert answers(play.down, b"GET") == [(200, b"hi")]
    assert play.new_needs() == [Need.UPSTREAM, Need.RELEASE_UPSTREAM, Need.CLOSE]


def test_a_caller_that_half_closes_still_gets_all_its_answers() -> None:
    play = Play().says(GET + POST + b"hello" + DENIED).caller_ends()
    play.gets().hears(OK).gets()
    assert requests(play.up) == [(b"POST", b"hello")]
    play.hears(OK)
    assert play.statuses() == [200, 200, 403]
    assert play.new_needs()[-1] is Need.CLOSE


def test_a_body_that_came_whole_before_the_upstream_did_is_whole() -> None:
    play = Play().says(POST + b"hello").caller_ends().gets()
    assert requests(play.up) == [(b"POST", b"hello")]
    assert play.hears(OK).statuses() == [200]


@pytest.mark.parametrize("asked", [GET[:9], POST + b"he", CHUNKED + b"2\r\nhe\r\n", EXPECTING])
def test_half_a_request_is_never_completed_for_a_caller_that_has_ended(asked: bytes) -> None:
    play = Play().says(asked)
    if play.stands() is Phase.CONNECTING:
        play.gets()
    play.caller_ends()
    assert requests(play.up) == []
    assert play.new_needs()[-1] is Need.ABORT
    assert [told.failure for told in play.told] == [Failure.CLIENT_GONE]


def test_half_a_request_that_ended_before_the_upstream_came_does_not_reach_it() -> None:
    play = Play().says(POST + b"he").caller_ends().gets()
    assert play.up == b""
    assert play.new_needs() == [Need.UPSTREAM, Need.DROP_UPSTREAM, Need.ABORT]


# Draining.


@pytest.mark.parametrize("asked", [GET, DENIED])
def test_a_draining_relay_ends_with_its_next_answer(asked: bytes) -> None:
    play = Play()
    play.relay.drain()
    play.says(asked)
    if play.stands() is Phase.CONNECTING:
        play.gets().hears(OK)
    assert b"Connection: close" in play.down
    assert play.new_needs()[-1] is Need.CLOSE


def test_a_drain_that_comes_during_the_answer_waits_for_the_next() -> None:
    play = Play().says(GET).gets().hears(OK[:-1])
    play.relay.drain()
    play.hears(OK[-1:])
    assert play.stands() is Phase.IDLE
    play.says(GET).gets().hears(OK)
    assert play.new_needs()[-1] is Need.CLOSE


# What the service is told.


def test_the_service_is_told_who_calls_last_and_by_nobody_else() -> None:
    play = Play().says(GET[:-2] + b"X-Mesh-Client-Id: me\r\nx_mesh_client_id: me\r\n\r\n").gets()
    assert play.up.endswith(b"\r\nx-mesh-client-id: spiffe://td/caller\r\n\r\n")
    assert b": me" not in play.up


def test_a_judge_without_an_identity_to_tell_tells_none() -> None:
    play = Play(lambda _head, _request_id: Grant()).says(GET).gets()
    assert b"x-mesh-client-id" not in play.up


def test_an_upstream_that_nobody_asked_for_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="nobody asked"):
        Play().gets()


def test_the_repr_tells_the_state() -> None:
    play = Play().says(GET)
    assert repr(play.relay) == "<HttpRelay CONNECTING request_done=True answered=False close=False needs=[]>"


def test_callers_who_say_the_same_over_one_memory_are_told_apart() -> None:
    """What is familiar is what was said, never who may say it: all connections of a listener share it."""
    memory = Memory(LIMITS, host=None)

    def caller(verdict: Grant | Refusal) -> HttpRelay:
        return HttpRelay(Terms(LIMITS, lambda *_: verdict, random.Random(1), memory=memory), 0.0)

    callers = {name: caller(Grant(name)) for name in (b"spiffe://td/a", b"spiffe://td/b")}
    denied = caller(Refusal())
    for number in range(100):
        path = b"/%d" % (number % 3)
        asked = b"GET %b HTTP/1.1\r\nHost: h\r\nCookie: %d\r\n\r\n" % (path, number % 2)
        for name, relay in callers.items():
            assert relay.take_request(asked, 0.0)
            sent = relay.ask(ResponseReader(LIMITS), 0.0, reused=True)
            assert sent.startswith(b"GET %b HTTP/1.1\r\nHost: h\r\nCookie: %d\r\n" % (path, number % 2))
            assert [value for field, value in fields_in(sent) if field == b"x-mesh-client-id"] == [name]
            assert (relay.take_answer(OK, 0.0) or b"").startswith(b"HTTP/1.1 200 OK\r\n")
        assert not denied.take_request(asked, 0.0)
        assert b"".join(denied.to_downstream).startswith(b"HTTP/1.1 403 ")
        assert (denied.needs, denied.to_upstream) == (deque(), [])
        denied.to_downstream.clear()


# Bodies that are only counted: whoever drives the relay passes them on himself.


def test_the_middle_of_a_body_of_known_length_is_counted_and_not_looked_at() -> None:
    play = Play().says(POST).gets()
    assert play.relay.pass_request(2)
    assert play.relay.pass_request(2)
    assert not play.relay.pass_request(1)  # the end of the message
    assert not play.relay.pass_request(2)  # and what is behind it
    play.says(b"e" + GET)
    assert play.up.endswith(b"e")
    play.hears(OK[:-2])
    assert play.relay.pass_answer(1)
    assert not play.relay.pass_answer(1)
    assert not play.relay.pass_answer(2)
    play.hears(b"i")
    assert play.down.endswith(b"\r\n\r\ni")
    assert [(told.bytes_in, told.bytes_out, told.status) for told in play.told] == [(5, 2, 200)]
    assert play.stands() is Phase.CONNECTING  # the next request


def test_what_has_to_be_looked_at_is_not_passed_by() -> None:
    nothing = Play()
    assert not nothing.relay.pass_request(1)
    assert not nothing.relay.pass_answer(1)
    connecting = Play().says(POST)
    assert not connecting.relay.pass_request(1)
    expecting = Play().says(EXPECTING).gets()
    assert not expecting.relay.pass_request(1)  # the phase changes with it
    chunked = Play().says(CHUNKED).gets()
    assert not chunked.relay.pass_request(1)
    chunked.hears(OK_CHUNKED[:-8])
    assert not chunked.relay.pass_answer(1)
    unknown = Play().says(GET).gets().hears(OK_UNTIL_CLOSE)
    assert not unknown.relay.pass_answer(1)
    awaiting = Play().says(GET).gets()
    assert not awaiting.relay.pass_answer(1)


def test_nothing_is_passed_by_what_waits_to_be_sent() -> None:
    relay = Play().says(POST).gets().relay
    relay.to_upstream.append(b"a")
    assert not relay.pass_request(1)
    relay = Play().says(GET).gets().hears(OK[:-2]).relay
    relay.to_downstream.append(b"h")
    assert not relay.pass_answer(1)


def test_a_body_that_was_counted_and_breaks_off_is_cut() -> None:
    play = Play().says(GET).gets().hears(OK[:-2])
    assert play.relay.pass_answer(1)
    play.upstream_ends()
    assert play.needs[-2:] == [Need.DROP_UPSTREAM, Need.ABORT]
    assert [(told.bytes_out, told.failure) for told in play.told] == [(1, Failure.RESPONSE_TRUNCATED)]
    play = Play().says(POST).gets()
    assert play.relay.pass_request(4)
    play.caller_ends()
    assert play.needs[-2:] == [Need.DROP_UPSTREAM, Need.ABORT]
    assert [told.failure for told in play.told] == [Failure.CLIENT_GONE]
