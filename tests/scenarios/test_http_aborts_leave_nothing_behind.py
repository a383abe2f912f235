"""Callers and services that go away at any byte leave no descriptor, no half request that counts, no broken sidecar."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.http_actors import CLOSES, Ended, chunked, ok, request, response
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.http_actors import Message, Origin, Pair, Talk

RUNS = 200
API = WEB = 'pool_idle = "1s"'

BODY = bytes(range(256)) * 300
CONVERSATIONS = [
    request("GET", "/get"),
    request("POST", "/length", body=BODY),
    request("POST", "/chunked", "Transfer-Encoding: chunked") + chunked(BODY[:1000], BODY, trailers=b"X-T: 1\r\n"),
    request("PUT", "/expect", "Expect: 100-continue", "Content-Length: 100") + BODY[:100],
    request("GET", "/first") + request("POST", "/second", body=BODY) + request("GET", "/third", CLOSES),
]


def go(sock: socket.socket, how: str) -> None:
    """Go away: by RST, by FIN, or by a half-close and then a FIN."""
    with contextlib.suppress(OSError):
        if how == "reset":
            reset(sock)
        elif how == "half-close":
            sock.shutdown(socket.SHUT_WR)
    sock.close()


@pytest.fixture
def watched(pair: Pair, origin: Origin) -> Iterator[random.Random]:
    """Dice; afterwards both sidecars hold no more than before, and serve."""
    before = [sidecar.descriptors for sidecar in (pair.api, pair.web)]
    yield random.Random(33)
    for sidecar, baseline in zip((pair.api, pair.web), before, strict=True):
        poll(lambda sidecar=sidecar, least=baseline: sidecar.descriptors <= least, "every descriptor closed")  # type: ignore[misc]
    origin.respond = ok
    with pair.caller() as caller:
        assert caller.ask("POST", "/still-served", body=b"x").status == 200
    for sidecar in (pair.api, pair.web):
        assert sidecar.log.seen("internal_error") == []


def test_callers_that_go_away(pair: Pair, origin: Origin, watched: random.Random) -> None:
    for _ in range(RUNS):
        said = watched.choice(CONVERSATIONS)
        opened = watched.choice([pair.caller, pair.mtls_caller])
        with opened() as caller:
            caller.say(said[: watched.randrange(len(said))])
            if watched.random() < 0.3:
                caller.sock.settimeout(0.02)
                with contextlib.suppress(OSError):
                    caller.sock.recv(100)
            go(caller.sock, watched.choice(["reset", "fin", "half-close"]))

    poll(lambda: all(visit.over.is_set() for visit in origin.visits), "every connection to the service ended")
    whole = {"/length": BODY, "/chunked": BODY[:1000] + BODY, "/expect": BODY[:100], "/second": BODY}
    for asked in origin.requests:
        assert not asked.complete or asked.body == whole.get(asked.target, b""), f"{asked.start} was completed for us"


def test_services_that_go_away(pair: Pair, origin: Origin, watched: random.Random) -> None:
    answers = [
        response(200, BODY),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY, BODY[:10], trailers=b"X-T: 1\r\n"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(200, b"ok"),
    ]

    def leave(talk: Talk, asked: Message) -> None:
        if watched.random() < 0.7:
            talk.read_body(asked)
        answer = watched.choice(answers)
        talk.say(answer[: watched.randrange(len(answer))])
        go(talk.sock, watched.choice(["reset", "fin", "half-close"]))
        raise Ended

    origin.respond = leave
    for _ in range(RUNS):
        with pair.caller() as caller, contextlib.suppress(ConnectionError):
            caller.say(watched.choice(CONVERSATIONS[:3]))
            assert caller.hear().status == 502
