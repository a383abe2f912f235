"""Answers are judged as strictly as requests: what is no sound answer never reaches a caller as one."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.http_actors import Ended, chunked, ok, raw, response
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk

API = 'response_timeout = "1s"'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

NO_HEAD = {
    "garbage": b"\x00\x01\x02\x03",
    "other protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2 version": b"HTTP/2 200 OK\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "no digits": b"HTTP/1.1 two OK\r\n\r\n",
    "space in front": b" HTTP/1.1 200 OK\r\n\r\n",
    "a status that is none": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "CR in a value": OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded line": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "no colon": OK + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "CL and TE": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a length in hex": OK + b"Content-Length: 0x2\r\n\r\nok",
    "gzip as transfer coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a head of 40 KiB": OK + b"X: " + b"a" * 40_960 + b"\r\nContent-Length: 0\r\n\r\n",
    "a head without end": OK + b"X: " + b"a" * 100_000,
    "two hundred fields": OK + b"X: a\r\n" * 200 + b"Content-Length: 0\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "a switch nobody asked for": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nGET /",
    "nothing at all": b"",
    "half a head": OK + b"Content-Le",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
}

NO_BODY = {
    "a body cut short": OK + b"Content-Length: 10\r\n\r\nhalf",
    "no size": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-1\r\nab\r\n0\r\n\r\n",
    "a huge size": CHUNKED + b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "a size with spaces": CHUNKED + b" 2 \r\nab\r\n0\r\n\r\n",
    "more than the size": CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends in LF": CHUNKED + b"2\r\nab\n0\r\n\r\n",
    "a size that ends in LF": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "a CR in an extension": CHUNKED + b"2;a=\rb\r\nab\r\n0\r\n\r\n",
    "chunks cut short": CHUNKED + b"2\r\nab\r\n",
    "no empty line at the end": CHUNKED + b"2\r\nab\r\n0\r\n",
    "NUL in a trailer": CHUNKED + b"2\r\nab\r\n0\r\nX: a\x00\r\n\r\n",
    "trailers without end": CHUNKED + b"2\r\nab\r\n0\r\n" + b"X: a\r\n" * 20_000,
}


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
