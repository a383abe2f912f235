"""The exchange beyond its limits: what is answered, what reaches the upstream, and which limit is told."""

from __future__ import annotations

import pytest

from meshproxy.errors import Failure
from meshproxy.http.head import HeadLimits
from meshproxy.http.phase import Need, Phase
from tests.http.screenplay import Play

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
DENIED = b"GET /no HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(length: int, *more: str) -> bytes:
    fields = "".join(f"{field}\r\n" for field in (f"Content-Length: {length}", *more))
    return f"POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode()


def limits_told(play: Play) -> list[str]:
    return [told.limit for told in play.told]


def test_a_body_that_is_announced_too_long_asks_for_no_upstream() -> None:
    play = Play(most_body=10).says(post(11) + bytes(11) + GET)
    assert play.new_needs() == [Need.UPSTREAM]  # of the request behind it: its body was short enough to throw away
    play.gets().hears(OK)
    assert play.statuses() == [413, 200]
    assert limits_told(play) == ["max_body_bytes", ""]
    assert play.told[0].failure is Failure.BODY_TOO_LARGE


def test_a_body_of_just_that_size_passes() -> None:
    play = Play(most_body=10).says(post(10) + bytes(10)).gets().hears(OK)
    assert (play.statuses(), limits_told(play)) == ([200], [""])
    assert play.up.endswith(bytes(10))


@pytest.mark.parametrize("asked", [post(1 << 40), post(11, "Expect: 100-continue")], ids=["long", "expecting"])
def test_a_body_that_would_not_be_thrown_away_ends_the_connection(asked: bytes) -> None:
    play = Play(most_body=10).says(asked)
    assert (play.statuses(), play.new_needs()) == ([413], [Need.CLOSE])
    assert b"Connection: close" in play.down


def test_a_caller_who_may_not_call_is_not_told_of_sizes() -> None:
    assert Play(most_body=10).says(post(11).replace(b"/a", b"/no") + bytes(11)).statuses() == [403]


def test_a_chunked_body_is_cut_when_it_grows_too_long() -> None:
    play = Play(most_body=10).says(CHUNKED).gets().says(b"a\r\n0123456789\r\n")
    assert play.up.endswith(b"a\r\n0123456789\r\n")
    play.new_needs()
    play.says(b"1\r\nX\r\n")
    assert b"X" not in play.up
    assert play.new_needs() == [Need.DROP_UPSTREAM]  # by RST: the upstream does not take it for a whole request
    assert play.statuses() == [413]
    play.says(b"0\r\n\r\n" + GET).gets().hears(OK)  # the rest was short enough to throw away
    assert play.statuses() == [413, 200]
    assert limits_told(play) == ["max_body_bytes", ""]


def test_a_chunked_body_without_end_is_not_read_for_ever() -> None:
    play = Play(most_body=10).says(CHUNKED).gets()
    for _ in range(20):
        play.says(b"1000\r\n" + bytes(4096) + b"\r\n")
    assert play.stands() is Phase.OVER
    assert play.statuses() == [413]


def test_a_body_too_long_behind_the_beginning_of_its_answer_cuts_the_answer() -> None:
    play = Play(most_body=10).says(CHUNKED).gets().hears(OK[:-1])
    play.says(b"b\r\n0123456789a\r\n")
    assert play.needs[-2:] == [Need.DROP_UPSTREAM, Need.ABORT]
    assert limits_told(play) == ["max_body_bytes"]


@pytest.mark.parametrize("asked", [GET, DENIED])
def test_pipelining_beyond_its_depth_ends_with_a_last_answer(asked: bytes) -> None:
    play = Play(most_pipelined=3).says(asked * 6)
    while Need.UPSTREAM in play.new_needs():
        play.gets().hears(OK)
    assert len(play.told) == 4  # the first was not sent behind another
    assert limits_told(play) == ["", "", "", "max_pipelined"]
    assert play.down.count(b"Connection: close") == 1
    assert play.stands() is Phase.OVER


def test_one_after_the_other_is_no_pipelining() -> None:
    play = Play(most_pipelined=2)
    for asked in (GET, b"GET /a HTTP/1.1\r\nhost:h\r\n\r\n"):  # what is recognised, and what is read the long way
        for _ in range(5):
            play.says(asked).gets().hears(OK)
        for _ in range(5):
            play.says(asked[:20]).says(asked[20:]).gets().hears(OK)
    assert play.statuses() == [200] * 20
    assert set(limits_told(play)) == {""}
    for _ in range(3):
        play.says(GET * 2).gets().hears(OK).gets().hears(OK)
    assert play.statuses() == [200] * 26


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (GET[:-2] + b"X: " + b"x" * 2000 + b"\r\n\r\n", "head_bytes"),
        (GET[:-2] + b"X: " + b"x" * 2000, "head_bytes"),
        (b"GET /" + b"a" * 2000, "head_bytes"),
        (b"GET /" + b"a" * 500 + GET[6:], "target_bytes"),
        (GET[:-2] + b"X: x\r\n" * 20 + b"\r\n", "max_fields"),
        (b"GET / HTTP/1.1\r\n\r\n", ""),
    ],
)
def test_a_head_beyond_a_limit_names_it(said: bytes, limit: str) -> None:
    play = Play(limits=HeadLimits(1024, 10, 256)).says(said)
    assert limits_told(play) == [limit]
    assert 400 <= play.statuses()[0] < 500


def seconds(failure: Failure) -> bytes:
    return b"2" if failure in {Failure.OVERLOADED, Failure.LIMIT} else b"1"


@pytest.mark.parametrize(("failure", "is_for_now"), [(each, each.status in {429, 503}) for each in Failure])
def test_what_is_refused_for_now_says_when_to_ask_again(failure: Failure, *, is_for_now: bool) -> None:
    play = Play().says(GET)
    play.relay.upstream_failed(failure, "", 0.0, limit="max_upstream_queue")
    play.collected()
    assert (b"Retry-After: %b\r\n" % seconds(failure) in play.down) is is_for_now
    assert limits_told(play) == ["max_upstream_queue"]
