"""Every form that HTTP/1.1 has for a message arrives with the meaning it was sent with."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.http_actors import Ended, chunked, fingerprint, fingerprints, ok, request, response
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk


def continuing(talk: Talk, asked: Message) -> None:
    """Ask for the body, then say ok."""
    assert asked.value("expect") == "100-continue"
    talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    ok(talk, asked)


def test_a_body_waits_for_100_continue(pair: Pair, origin: Origin) -> None:
    origin.respond = continuing

    with pair.caller() as caller:
        for _ in range(3):
            caller.say(request("PUT", "/", "Expect: 100-continue", "Content-Length: 3"))
            interim = caller.read_head()
            assert interim is not None
            assert interim.status == 100
            caller.say(b"abc")
            assert caller.hear().status == 200

    assert [asked.body for asked in origin.requests] == [b"abc"] * 3


def test_a_service_may_refuse_before_the_body_was_sent(pair: Pair, origin: Origin) -> None:
    def refuse(talk: Talk, asked: Message) -> None:
        talk.say(response(413, b"too large"))
        raise Ended

    origin.respond = refuse
    with pair.caller() as caller:
        caller.say(request("PUT", "/", "Expect: 100-continue", "Content-Length: 1000000000"))
        answer = caller.hear()
        assert (answer.status, answer.interim) == (413, [])
        assert answer.value("connection") == "close"  # nobody knows whether the body will come
        assert caller.has_ended()


def test_a_denied_body_is_never_asked_for(pair: Pair, origin: Origin) -> None:
    with pair.mtls_caller("/mallory") as mallory:
        mallory.say(request("PUT", "/", "Expect: 100-continue", "Content-Length: 1000000000"))
        answer = mallory.hear()

    assert (answer.status, answer.interim) == (403, [])
    assert origin.requests == []


def test_early_hints_and_other_interim_answers_pass(pair: Pair, origin: Origin) -> None:
    def hint(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        ok(talk, asked)

    origin.respond = hint
    with pair.caller() as caller:
        answer = caller.ask("GET", "/")

    assert [interim.status for interim in answer.interim] == [102, 103]
    assert answer.interim[1].value("link") == "</a.css>"
    assert answer.body == b"ok"


def test_an_answer_may_come_before_the_end_of_its_request(pair: Pair, origin: Origin) -> None:
    """And the rest of the request still arrives."""

    def early(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        talk.read_body(asked)
        talk.say(chunked(asked.body))

    origin.respond = early
    with pair.caller() as caller:
        caller.say(request("POST", "/", "Content-Length: 6") + b"abc")
        head = caller.hear_head()
        caller.say(b"def")
        assert caller.read_body(head) == b"abcdef"


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: "a"\r\n\r\n', "77"),
    ],
)
def test_answers_without_body_end_with_their_head(
    pair: Pair, origin: Origin, method: str, answer: bytes, length: str
) -> None:
    def bodiless(talk: Talk, asked: Message) -> None:
        if asked.target == "/bodiless":
            talk.say(answer)
        else:
            ok(talk, asked)

    origin.respond = bodiless
    with pair.caller() as caller:
        for _ in range(3):
            heard = caller.ask(method, "/bodiless")
            assert (heard.status, heard.value("content-length")) == (int(answer.split()[1]), length)
            assert caller.ask("GET", "/next").body == b"ok"
    assert len(origin.visits) == 1


def test_trailers_arrive_both_ways(pair: Pair, origin: Origin) -> None:
    def echo_trailers(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        [(name, value)] = asked.trailers
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        talk.say(chunked(b"a", b"bc", trailers=f"{name}: {value}\r\nContent-Length: 5\r\n".encode()))

    origin.respond = echo_trailers
    with pair.caller() as caller:
        caller.say(
            request("POST", "/", "TE: trailers", "Transfer-Encoding: chunked")
            + chunked(b"12345", trailers=b"X-Sum: 15\r\nHost: evil.test\r\nAuthorization: Basic eDp5\r\n")
        )
        answer = caller.hear()

    assert origin.requests[0].trailers == [("X-Sum", "15")]
    assert origin.requests[0].value("te") == "trailers"
    assert answer.body == b"abc"
    assert answer.trailers == [("X-Sum", "15")]


def test_pipelined_requests_are_answered_in_order(pair: Pair, origin: Origin) -> None:
    origin.respond = fingerprints
    asked = [(f"/{number}", b"x" * (number * 37 % 5000)) for number in range(100)]  # no more than max_pipelined

    with pair.caller() as caller:
        everything = b"".join(request("POST", target, body=body) for target, body in asked)
        talking = threading.Thread(target=caller.say, args=(everything,))
        talking.start()
        for target, body in asked:
            assert caller.hear().body == fingerprint("POST", target, body)
        talking.join()

    assert origin.targets() == [target for target, _ in asked]


def test_a_client_of_http_1_0_is_served(pair: Pair, origin: Origin) -> None:
    """As `ab` asks: without Host, or wishing for keep-alive. A chunked answer becomes one that ends with the stream."""

    def streamed(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        if asked.target == "/interim":
            talk.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"old ", b"client"))

    origin.respond = streamed
    for head in (b"GET /plain HTTP/1.0\r\n", b"GET /interim HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n"):
        with pair.caller() as caller:
            caller.say(head + b"\r\n")
            answer = caller.hear()
            assert (answer.status, answer.body, answer.interim) == (200, b"old client", [])
            assert answer.values("transfer-encoding") == []
            assert caller.has_ended()

    assert [asked.start.split()[2] for asked in origin.requests] == ["HTTP/1.1", "HTTP/1.1"]


def test_a_service_of_http_1_0_is_understood(pair: Pair, origin: Origin) -> None:
    """Its answer ends with its connection; to the caller it is chunked, so that the end can be told from a cut."""

    def old(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(b"HTTP/1.0 200 OK\r\n\r\nold service")
        raise Ended

    origin.respond = old
    with pair.caller() as caller:
        for _ in range(3):
            answer = caller.ask("GET", "/")
            assert (answer.body, answer.value("transfer-encoding")) == (b"old service", "chunked")


def test_a_caller_may_stop_sending_and_still_hear_its_answer(pair: Pair, origin: Origin) -> None:
    stopped = threading.Event()

    def patient(talk: Talk, asked: Message) -> None:
        stopped.wait(PATIENCE)
        ok(talk, asked)

    origin.respond = patient
    with pair.caller() as caller:
        caller.say(request("GET", "/"))
        caller.sock.shutdown(socket.SHUT_WR)
        stopped.set()
        assert caller.hear().body == b"ok"
        assert caller.has_ended()
