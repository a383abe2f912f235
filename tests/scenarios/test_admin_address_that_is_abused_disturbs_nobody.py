"""Garbage, silence and crowds at the admin address cost callers nothing; it tells no secret, no request leads there."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import dial, read_to_end
from tests.scenarios.http_actors import request
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Pair
    from tests.scenarios.stage import Sidecar

CROWD = 200
ABUSES = [
    b"",
    b"\r\n" * 1000,
    b"GET /status HTTP/1.1\r\n\r\n",
    b"GET /status HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
    b"GET /status HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /status" + b"/.." * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /st\xff\x00tus HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def abuse(admin: str, words: bytes) -> bytes:
    """Say it, end, and hear what there is to hear."""
    with dial(admin) as sock, contextlib.suppress(OSError):
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)
        return read_to_end(sock)[0]
    return b""


@pytest.mark.long
def test_abuse_disturbs_nobody(pair: Pair) -> None:
    dice = random.Random(31)
    before = pair.web.descriptors
    told = b""
    with pair.caller() as caller:
        for _ in range(10):
            for words in ABUSES:
                told += abuse(pair.web.admin, words)
                cut = dice.randrange(len(words) + 1)
                told += abuse(pair.web.admin, words[:cut] + dice.randbytes(dice.randrange(50)) + words[cut:])
            assert caller.ask("POST", "/beside", body=b"x").status == 200
        assert pair.web.get("/live").status == 200
    assert b"Traceback" not in told
    assert b"root:" not in told
    poll(lambda: pair.web.descriptors <= before, "nothing is left of it")


@pytest.mark.long
def test_a_silent_crowd_keeps_nobody_from_being_served(pair: Pair) -> None:
    """64 are let in, each for ten seconds; whoever is beyond that is reset, and the traffic is no concern of theirs."""
    before = pair.web.descriptors
    with contextlib.ExitStack() as crowd, pair.caller() as caller:
        for _ in range(CROWD):
            crowd.enter_context(dial(pair.web.admin))
        for _ in range(100):
            assert caller.ask("POST", "/beside", body=b"x").status == 200
        poll(lambda: _lives(pair.web), "the silent ones have had their time", within=60)
    poll(lambda: pair.web.descriptors <= before, "nothing is left of them")


def test_it_tells_no_secret(pair: Pair) -> None:
    key = (pair.stage.workspace / "identity-web" / "key.pem").read_text().splitlines()
    for page in ("/status", "/metrics", "/ready", "/live", "/nothing"):
        told = pair.web.get(page).body.decode()
        assert "PRIVATE" not in told
        assert not [line for line in key if line in told]


def test_no_request_through_the_proxy_reaches_it(pair: Pair) -> None:
    """Whatever a request says of hosts and addresses, a listener has one place to bring it: its own."""
    admin = pair.api.admin
    with pair.mtls_caller() as caller:
        for target in ("/status", f"http://{admin}/status", "/metrics"):
            caller.say(request("GET", target).replace(b"Host: api.test", f"Host: {admin}".encode()))
            assert caller.hear().body == b"ok"  # the service has answered, and nobody else


def _lives(sidecar: Sidecar) -> bool:
    try:
        return sidecar.get("/live").status == 200
    except (OSError, ValueError):
        return False
