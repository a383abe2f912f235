"""Answers are judged as strictly as requests: what is no sound answer never reaches a caller as one."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.hostile_answers import NO_BODY, NO_HEAD, OK
from tests.scenarios.http_actors import Ended, chunked, ok, raw, request, response
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk

API = 'response_timeout = "1s"'


@pytest.mark.parametrize("answer", NO_HEAD.values(), ids=NO_HEAD.keys())
def test_an_unsound_head_is_502(pair: Pair, origin: Origin, answer: bytes) -> None:
    origin.respond = raw(answer)

    with pair.caller() as caller:
        heard = caller.ask("POST", "/hostile", body=b"x")
        assert heard.status == 502
        assert heard.value("proxy-status").startswith("meshproxy; error=")
        assert len(heard.interim) <= 32
        origin.respond = ok
        assert caller.ask("GET", "/honest").body == b"ok"  # the caller's connection is kept

    line = pair.api.log.request(path="/hostile")
    assert line.failure in {"upstream_protocol", "upstream_closed"}
    assert line.detail


@pytest.mark.parametrize("answer", NO_BODY.values(), ids=NO_BODY.keys())
def test_an_unsound_body_is_cut(pair: Pair, origin: Origin, answer: bytes) -> None:
    """Or, when the fault comes with the head, answered with 502; but never brought to an end that looks sound."""
    origin.respond = raw(answer)

    with pair.caller() as caller, contextlib.suppress(ConnectionError):
        assert caller.ask("GET", "/hostile").status == 502
    origin.respond = ok
    with pair.caller() as caller:
        assert caller.ask("GET", "/honest").body == b"ok"

    assert pair.api.log.request(path="/hostile").failure in {"response_truncated", "upstream_protocol"}


@pytest.mark.parametrize("first", [response(200, b"ok"), OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ok")])
def test_a_second_answer_is_nobodys(pair: Pair, origin: Origin, first: bytes) -> None:
    def twice(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(first + response(200, b"poison"))

    origin.respond = twice
    with pair.caller() as one, pair.caller() as other:
        for caller in (one, other, one, other):
            assert caller.ask("POST", "/", body=b"x").body == b"ok"


@pytest.mark.parametrize("granted", [b"websocket", b"other", b"websocket, other", b"h2c"])
def test_only_a_protocol_that_was_offered_is_switched_to(pair: Pair, origin: Origin, granted: bytes) -> None:
    """What is spoken after a switch is judged by nobody, so it must be what the caller has asked for."""
    origin.respond = raw(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: " + granted + b"\r\n\r\n")

    with pair.caller() as caller:
        caller.say(request("GET", "/ws", "Connection: upgrade", "Upgrade: websocket, irc/6.9"))
        assert caller.hear_head().status == (101 if granted == b"websocket" else 502)


def test_an_answer_before_the_end_of_its_request_is_passed_on_and_ends_both(pair: Pair, origin: Origin) -> None:
    """Whether the rest of the request will come is not known, so nothing may follow on either connection."""

    def early(talk: Talk, asked: Message) -> None:
        talk.say(response(413, b"too much"))
        for _ in talk.pieces(asked):
            pass

    origin.respond = early
    with pair.caller() as caller:
        caller.say(request("POST", "/early", "Content-Length: 1000000") + b"half")
        heard = caller.hear("POST")
        assert (heard.status, heard.body, heard.value("connection")) == (413, b"too much", "close")
        assert caller.has_ended()
    origin.respond = ok
    with pair.caller() as caller:
        assert caller.ask("GET", "/next").body == b"ok"
    assert [asked.visit for asked in origin.requests] == [0, 1]


def test_a_body_behind_an_answer_to_head_is_nobodys(pair: Pair, origin: Origin) -> None:
    origin.respond = lambda talk, _asked: talk.say(response(200, b"") + response(200, b"poison"))
    with pair.caller() as caller:
        for _ in range(3):
            heard = caller.ask("HEAD", "/")
            assert (heard.status, heard.body) == (200, b"")


def test_a_body_behind_an_answer_that_has_none_is_nobodys(pair: Pair, origin: Origin) -> None:
    def generous(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n" + response(200, b"poison"))

    origin.respond = generous
    with pair.caller() as caller:
        for _ in range(3):
            heard = caller.ask("GET", "/")
            assert (heard.status, heard.body) == (304, b"")


def test_a_head_that_trickles_is_504_at_response_timeout(pair: Pair, origin: Origin) -> None:
    def trickle(talk: Talk, asked: Message) -> None:
        for byte in OK * 1000:
            talk.say(bytes((byte,)))
            time.sleep(0.05)

    origin.respond = trickle
    with pair.caller() as caller:
        began = time.monotonic()
        assert caller.ask("GET", "/").status == 504
        assert 0.9 < time.monotonic() - began < 6


def test_a_reset_at_any_offset_is_no_answer(pair: Pair, origin: Origin) -> None:
    """Whatever came before it: a whole answer, or 502, or a cut."""
    whole = response(200, b"fingerprint")
    offsets = iter(range(len(whole)))
    heard = threading.Semaphore(0)

    def die(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(whole[: next(offsets)])
        heard.acquire(timeout=PATIENCE)
        reset(talk.sock)
        raise Ended

    origin.respond = die
    for offset in range(len(whole)):
        with pair.mtls_caller() as caller:
            heard.release()
            try:
                answer = caller.ask("POST", f"/{offset}", body=b"x")
            except ConnectionError:
                assert offset >= whole.index(b"\r\n\r\n")
            else:
                assert answer.status == 502
