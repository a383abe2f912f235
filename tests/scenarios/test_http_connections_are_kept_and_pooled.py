"""Connections are used again on both sides, for as long as `pool_idle` says, and never by two exchanges at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.scenarios.actors import client_context
from tests.scenarios.http_actors import CLOSES, Origin, http_api, mtls_caller, ok, response
from tests.scenarios.stage import PATIENCE, WORKERS, poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Pair, Talk
    from tests.scenarios.stage import Stage


def test_one_connection_carries_all_requests_in_turn(pair: Pair, origin: Origin) -> None:
    with pair.caller() as caller:
        for number in range(50):
            assert caller.ask("POST", f"/{number}", body=b"x").status == 200
    for _ in range(20):  # and other callers of the same sidecar (of several workers: at the same one) share it
        with pair.caller() as caller:
            assert caller.ask("GET", "/").status == 200

    assert 1 <= len(origin.visits) <= WORKERS
    poll(lambda: len({line["id"] for line in pair.web.log.seen("request")}) == 21, "21 callers")
    assert 1 <= len({line["id"] for line in pair.api.log.seen("request")}) <= WORKERS


def test_exchanges_at_the_same_time_have_connections_of_their_own(pair: Pair, origin: Origin) -> None:
    together = threading.Barrier(8)

    def meet(talk: Talk, asked: Message) -> None:
        together.wait(PATIENCE)
        ok(talk, asked)

    origin.respond = meet
    callers = [pair.caller() for _ in range(8)]
    for _ in range(5):
        for caller in callers:
            caller.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [caller.hear().status for caller in callers] == [200] * 8
    for caller in callers:
        caller.sock.close()

    assert len(origin.visits) == 8


def test_a_connection_rests_for_three_seconds(pair: Pair, origin: Origin) -> None:
    """That is shorter than what services wait before they close."""
    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/1").status == 200
        resting_since = time.monotonic()
        origin.visit()  # our sidecar ends it
        rested = time.monotonic() - resting_since
        assert 2.9 < rested < 6
        assert caller.ask("GET", "/2").status == 200  # the caller's own connection lives on

    assert [asked.visit for asked in origin.requests] == [0, 1]


def test_pool_idle_of_zero_keeps_none(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin, more='pool_idle = "0s"')

    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        for number in range(5):
            assert caller.ask("GET", f"/{number}").status == 200
            origin.visit(number)

    assert [asked.visit for asked in origin.requests] == [0, 1, 2, 3, 4]


def test_who_says_close_is_taken_at_the_word(pair: Pair, origin: Origin) -> None:
    def once(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(response(200, b"ok", CLOSES))

    origin.respond = once

    with pair.caller() as caller:
        for number in range(3):  # the service's word is for our sidecar's connection, not for the caller's
            answer = caller.ask("GET", f"/{number}")
            assert (answer.status, answer.value("connection")) == (200, "")
        answer = caller.ask("GET", "/last", CLOSES)
        assert answer.value("connection") == "close"
        assert caller.has_ended()

    assert [asked.visit for asked in origin.requests] == [0, 1, 2, 3]


def test_bytes_on_a_resting_connection_belong_to_nobody(pair: Pair, origin: Origin) -> None:
    """An answer that comes unasked must not become the answer to the next request."""
    stray = threading.Event()

    def talkative(talk: Talk, asked: Message) -> None:
        ok(talk, asked)
        if asked.target == "/1":
            stray.wait(PATIENCE)
            talk.say(response(200, b"poison"))

    origin.respond = talkative

    with pair.caller() as caller:
        assert caller.ask("GET", "/1").body == b"ok"
        stray.set()
        poll(origin.visits[0].over.is_set, "the sidecar drops the connection")
        for number in range(10):
            assert caller.ask("GET", f"/more/{number}").body == b"ok"
