"""What a service says reaches its caller at once: server-sent events, long polls, and uploads that trickle."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.http_actors import Ended, request, response
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk

EVENTS = 20
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.mark.parametrize("in_chunks", [True, False], ids=["chunked", "until close"])
def test_each_event_arrives_before_the_next_is_sent(pair: Pair, origin: Origin, *, in_chunks: bool) -> None:
    heard = threading.Semaphore(0)

    def tell(talk: Talk, asked: Message) -> None:
        talk.say(STREAM + (b"Transfer-Encoding: chunked\r\n\r\n" if in_chunks else b"\r\n"))
        for number in range(EVENTS):
            assert heard.acquire(timeout=PATIENCE), "the caller did not hear what was said"
            event = b"data: %d\n\n" % number
            talk.say(b"%x\r\n%b\r\n" % (len(event), event) if in_chunks else event)
        if not in_chunks:
            raise Ended
        talk.say(b"0\r\n\r\n")

    origin.respond = tell
    with pair.caller() as caller:
        caller.say(request("GET", "/events"))
        head = caller.hear_head()  # the head alone, before any event
        heard.release()
        events = []
        for piece in caller.pieces(head):
            events.append(piece)
            heard.release()

    assert events == [b"data: %d\n\n" % number for number in range(EVENTS)]
    assert head.complete


def test_each_piece_of_an_upload_arrives_before_the_next_is_sent(pair: Pair, origin: Origin) -> None:
    heard = threading.Semaphore(0)

    def listen(talk: Talk, asked: Message) -> None:
        for piece in talk.pieces(asked):
            asked.body += piece
            heard.release()
        talk.say(response(200, asked.body))

    origin.respond = listen
    with pair.caller() as caller:
        caller.say(request("POST", "/telemetry", "Content-Length: 10"))
        for number in range(10):
            caller.say(b"%d" % number)
            assert heard.acquire(timeout=PATIENCE), "the service did not hear what was said"
        assert caller.hear().body == b"0123456789"


def test_an_event_source_may_be_silent_for_longer_than_a_head_may_take(pair: Pair, origin: Origin) -> None:
    """`response_timeout` and `head_timeout` are about heads: a stream that has begun may rest up to `idle_timeout`."""
    go_on = threading.Event()

    def tell(talk: Talk, asked: Message) -> None:
        talk.say(STREAM + b"Transfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
        go_on.wait(PATIENCE)
        talk.say(b"2\r\nb\n\r\n0\r\n\r\n")

    origin.respond = tell
    with pair.caller() as caller:
        caller.say(request("GET", "/events"))
        head = caller.hear_head()
        pieces = caller.pieces(head)
        assert next(pieces) == b"a\n"
        assert not go_on.wait(2.5)
        go_on.set()
        assert next(pieces) == b"b\n"


API = WEB = 'response_timeout = "1s"\nhead_timeout = "1s"'
