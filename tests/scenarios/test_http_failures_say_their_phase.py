"""When there is no answer from the service, the status and `Proxy-Status` (RFC 9209) say in which phase it failed."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, dial, sink
from tests.scenarios.http_actors import Caller, Ended, Origin, raw, response
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.factory import MeshCa
    from tests.scenarios.actors import Visit
    from tests.scenarios.http_actors import Message, Pair
    from tests.scenarios.stage import Sidecar, Stage

API = 'response_timeout = "500ms"'


def no_tls(sock: socket.socket, visit: Visit) -> None:
    """Answer a handshake as a plain service does."""
    visit.take(sock.recv(65536))
    sock.sendall(response(400))


def handshake_failure(sock: socket.socket, visit: Visit) -> None:
    """Answer a ClientHello with the alert handshake_failure (RFC 8446 section 6.2)."""
    visit.take(sock.recv(65536))
    sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


@pytest.fixture(scope="module")
def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"127.0.0.1:{gone.getsockname()[1]}"


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    """An address where connections are not even accepted."""
    with contextlib.ExitStack() as sockets:
        queue = sockets.enter_context(socket.socket())
        queue.bind(("127.0.0.1", 0))
        queue.listen(0)
        for _ in range(4):  # a backlog of 0 takes one or two; then SYNs are dropped
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(queue.getsockname())
        yield f"127.0.0.1:{queue.getsockname()[1]}"


@pytest.fixture(scope="module")
def web(shared_stage: Stage, foreign: MeshCa, nobody: str, full: str) -> Sidecar:
    """A sidecar with a listener for each misfortune on the way to /api."""
    origin = shared_stage.keep(Origin())
    shared_stage.write("nobody.allow.toml", "allow = []\n")
    serving = inbound(forward=origin.address, protocol="http", policy="nobody.allow.toml")
    other = shared_stage.sidecar("other", serving)
    stranger_identity = foreign.issue("/api", into=shared_stage.workspace / "foreign-api").directory
    stranger = shared_stage.sidecar("stranger", serving, identity=stranger_identity)
    no_name = "nowhere.invalid:8443"  # RFC 6761 section 6.4: never resolves
    ways = {
        "refused": [nobody],
        "full": [full],
        "unresolved": [no_name],
        "other": [other.address("api")],
        "stranger": [stranger.address("api")],
        "no-tls": [shared_stage.keep(Service(no_tls)).address],
        "refusing": [shared_stage.keep(Service(handshake_failure)).address],
        "silent": [shared_stage.keep(Service(sink)).address],
    }
    more = 'connect_timeout = "500ms"\nhandshake_timeout = "500ms"'
    tables = [outbound(name, endpoints=way, protocol="http", more=more) for name, way in ways.items()]
    return shared_stage.sidecar("caller", "".join(tables))


def says_nothing_internal(answer: Message, *secrets: str) -> bool:
    """Whether neither head nor body tells what stands in our log."""
    text = str(answer.fields) + answer.body.decode()
    return not any(secret in text for secret in ("127.0.0.1", "spiffe", "mesh.test", "rrno", "Traceback", *secrets))


@pytest.mark.parametrize(
    ("way", "proxy_status", "word", "logged"),
    [
        ("refused", "502 connection_refused", "upstream_refused", "Connection refused"),
        ("full", "504 connection_timeout", "connect_timeout", "no answer within 0.5 s"),
        ("unresolved", "502 dns_error", "upstream_unresolved", "nowhere.invalid"),
        ("other", "502 tls_certificate_error", "upstream_identity", "the far end is spiffe://mesh.test/other"),
        ("stranger", "502 tls_certificate_error", "upstream_certificate", "unknown_ca"),
        ("refusing", "502 tls_alert_received", "upstream_alert", "the peer"),
        ("silent", "504 connection_timeout", "connect_timeout", "handshake: no answer within 0.5 s"),
        ("no-tls", "502 tls_protocol_error", "upstream_tls", ""),
    ],
)
def test_no_connection_to_the_far_end(web: Sidecar, way: str, proxy_status: str, word: str, logged: str) -> None:
    status, token = int(proxy_status[:3]), proxy_status[4:]
    with Caller(dial(web.address(way))) as caller:
        for method in ("POST", "GET"):  # the caller's own connection is kept
            answer = caller.ask(method, f"/{way}", body=b"x" if method == "POST" else None)
            assert answer.status == status
            assert answer.value("proxy-status") == f"meshproxy; error={token}"
            assert answer.value("content-type") == "application/problem+json"
            assert json.loads(answer.body)["request_id"] == answer.value("x-request-id")
            assert says_nothing_internal(answer, "nowhere", "stranger")

    line = web.log.request(path=f"/{way}")
    assert (line.failure, line.status) == (word, status)
    assert logged in line.detail
    labels = {"listener": way, "status": f"{status // 100}xx", "failure": word}
    assert web.metric("meshproxy_requests_total", **labels) == 2


def test_a_service_that_is_down_is_told_at_once(stage: Stage, nobody: str) -> None:
    api = stage.sidecar("api", inbound(forward=nobody, protocol="http"))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], protocol="http"))

    with Caller(dial(web.address("to-api"))) as caller:
        caller.ask("GET", "/warm-up")
        began = time.monotonic()
        answer = caller.ask("GET", "/")
        took = time.monotonic() - began

    assert (answer.status, answer.value("proxy-status")) == (502, "meshproxy; error=connection_refused")
    assert took < 0.5
    assert says_nothing_internal(answer)
    assert api.log.request(path="/").failure == "upstream_refused"
    assert web.log.request(path="/").failure == ""  # it had an answer: that of the other sidecar


def test_a_service_that_does_not_answer_is_given_up(pair: Pair, origin: Origin) -> None:
    origin.respond = lambda talk, _asked: talk.say(b"HTTP/1.1 200 OK\r\nX-Slow: " if talk.has_ended() else b"")

    with pair.caller() as caller:
        began = time.monotonic()
        answer = caller.ask("GET", "/slow")
        took = time.monotonic() - began
        assert (answer.status, answer.value("proxy-status")) == (504, "meshproxy; error=http_response_timeout")
        assert 0.45 < took < 5
        origin.visit()  # the sidecar has let go of it
        origin.respond = raw(b"")
        assert caller.ask("GET", "/next").status == 502  # and the caller's connection is kept

    assert pair.api.log.request(path="/slow").failure == "response_timeout"


def test_a_service_that_hangs_up_without_an_answer(pair: Pair, origin: Origin) -> None:
    origin.respond = raw(b"")

    with pair.caller() as caller:
        answer = caller.ask("POST", "/", body=b"x")

    assert (answer.status, answer.value("proxy-status")) == (502, "meshproxy; error=connection_terminated")
    assert pair.api.log.request(path="/").failure == "upstream_closed"


def test_a_service_killed_in_the_middle_of_its_answer_is_no_answer(pair: Pair, origin: Origin) -> None:
    """The status is out already: the caller sees a cut, never a whole body."""
    origin.respond = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")

    with pair.caller() as caller, pytest.raises(ConnectionError) as cut:
        caller.ask("GET", "/half")

    assert isinstance(cut.value, Ended | ConnectionResetError)
    for sidecar in (pair.api, pair.web):
        line = sidecar.log.request(path="/half")
        assert (line.status, line.failure) == (200, "response_truncated")


def test_an_own_identity_out_of_time_is_503(stage: Stage) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    directory = stage.workspace / "short"
    stage.mesh.forge(into=directory, uris=["spiffe://mesh.test/web"], not_after=until)
    origin = stage.keep(Origin())
    api = stage.sidecar("api", inbound(forward=origin.address, protocol="http"))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], protocol="http"), identity=directory)
    poll(lambda: web.get("/ready").status == 503, "the certificate expired")

    with Caller(dial(web.address("to-api"))) as caller:
        answer = caller.ask("GET", "/")
        assert (answer.status, answer.value("proxy-status")) == (503, "meshproxy; error=proxy_internal_error")
        assert says_nothing_internal(answer, "expired")
        assert "our certificate" in web.log.request(path="/").detail
        assert origin.requests == []

        stage.mesh.issue("/web", into=directory)
        poll(lambda: web.get("/ready").status == 200, "healed")
        assert caller.ask("GET", "/").status == 200
