"""An exchange as spans: names, attributes and status by OpenTelemetry's HTTP conventions."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided, Exchange
from meshproxy.http.parse import read_request_head
from meshproxy.http.trace_context import Trace
from meshproxy.tracing.otlp import Kind
from meshproxy.tracing.spans import Clocks, Sampled, Scene, spans_of
from tests.http.screenplay import LIMITS

if TYPE_CHECKING:
    from meshproxy.tracing.otlp import Span

GRANTED = Decided("spiffe://td/web", "allow", "web-reads", "granted", "enforce", "api.allow.toml@1")
INBOUND = Scene("api", "inbound", "10.0.0.9:4711", "spiffe://td/web", "127.0.0.1:8080")
OUTBOUND = Scene("to-api", "outbound", "unix", "", "10.0.0.7:8443", "spiffe://td/api")
SECOND = 1_000_000_000


def sampled(
    line: bytes = b"GET /orders/17?token=secret", *fields: bytes, scene: Scene = INBOUND, **more: Any
) -> Sampled:
    head = read_request_head(b"\r\n".join((line + b" HTTP/1.1", b"Host: orders.internal", *fields, b"", b"")), LIMITS)
    exchange = Exchange(10.0, b"request-1", b"a" * 32, head, GRANTED if scene.direction == "inbound" else None)
    exchange.upstream_asked, exchange.answered, exchange.ended, exchange.status = 10.25, 10.5, 11.0, 200
    for name, value in more.items():
        setattr(exchange, name, value)
    trace = Trace(b"a" * 32, b"b" * 16, b"c" * 16, b"d" * 16, b"v=1", random.Random(1))
    exchange.trace = trace
    return Sampled(exchange, trace, head, scene, Clocks(1_700_000_001 * SECOND, 11.0))


def test_an_inbound_request_is_a_server_span_and_its_attempt_a_client_span() -> None:
    server, client = spans_of(sampled(b"GET /orders/17?token=secret", b"User-Agent: curl/8"))
    assert (server.name, server.kind, server.parent_id, server.parent_is_remote) == (
        "GET web-reads",
        Kind.SERVER,
        "b" * 16,
        True,
    )
    assert (server.began, server.ended) == (1_700_000_000 * SECOND, 1_700_000_001 * SECOND)
    assert server.state == "v=1"
    assert server.attributes == {
        "http.request.method": "GET",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "url.path": "/orders/17",
        "url.scheme": "https",
        "network.peer.address": "10.0.0.9",
        "network.peer.port": 4711,
        "client.address": "10.0.0.9",
        "client.port": 4711,
        "server.address": "orders.internal",
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
        "meshproxy.listener": "api",
        "meshproxy.direction": "inbound",
        "meshproxy.request_id": "request-1",
        "meshproxy.caller": "spiffe://td/web",
        "meshproxy.decision": "allow",
        "meshproxy.reason": "granted",
        "meshproxy.rule": "web-reads",
    }
    assert (client.name, client.kind, client.parent_id, client.span_id) == (
        "GET api",
        Kind.CLIENT,
        server.span_id,
        "d" * 16,
    )
    assert (client.began, client.ended) == (1_700_000_000 * SECOND + SECOND // 4, 1_700_000_001 * SECOND)
    assert client.attributes == {
        "http.request.method": "GET",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "meshproxy.listener": "api",
        "server.address": "127.0.0.1",
        "server.port": 8080,
        "url.full": "http://127.0.0.1:8080/orders/17",
        "http.response.status_code": 200,
    }
    assert not server.is_error
    assert not client.is_error


def test_an_outbound_request_says_whom_it_reached() -> None:
    server, client = spans_of(sampled(scene=OUTBOUND))
    assert (server.name, client.name) == ("GET to-api", "GET to-api")
    assert server.attributes["url.scheme"] == "http"
    assert client.attributes["url.full"] == "https://10.0.0.7:8443/orders/17"
    assert client.attributes["meshproxy.upstream_id"] == "spiffe://td/api"
    assert "meshproxy.decision" not in server.attributes


def test_neither_paths_nor_queries_are_in_names_and_queries_are_nowhere() -> None:
    for span in spans_of(sampled(b"GET /orders/secret?token=secret")):
        assert "secret" not in span.name
        assert "token" not in str(span.attributes)


def test_a_method_nobody_knows_makes_no_name() -> None:
    server, client = spans_of(sampled(b"BREW /pot"))
    assert (server.name, client.name) == ("HTTP web-reads", "HTTP api")
    assert server.attributes["http.request.method"] == "_OTHER"
    assert server.attributes["http.request.method_original"] == "BREW"


@pytest.mark.parametrize(
    ("status", "server_failed", "client_failed"), [(200, False, False), (404, False, True), (503, True, True)]
)
def test_whose_error_a_status_is(status: int, server_failed: bool, client_failed: bool) -> None:  # noqa: FBT001 - a table
    server, client = spans_of(sampled(status=status))
    assert (server.is_error, client.is_error) == (server_failed, client_failed)
    assert client.attributes.get("error.type") == (str(status) if client_failed else None)
    assert server.attributes.get("error.type") == (str(status) if server_failed else None)


def asked_nobody(**more: Any) -> list[Span]:
    made = sampled(upstream_asked=0.0, answered=10.5, **more)
    return spans_of(replace(made, scene=replace(made.scene, upstream="")))


def test_what_was_denied_reached_nobody_and_is_no_error_of_ours() -> None:
    denied = Decided("spiffe://td/web", "deny", "", "path", "enforce", "f@1")
    (server,) = asked_nobody(status=403, failure=Failure.DENIED, decided=denied)
    assert server.name == "GET api"  # no rule: the listener
    assert (server.is_error, server.attributes["error.type"]) == (False, "denied")
    assert (server.attributes["meshproxy.decision"], server.attributes["meshproxy.reason"]) == ("deny", "path")


def test_each_attempt_has_a_span_of_its_own() -> None:
    made = sampled(scene=OUTBOUND)
    made.trace.try_failed(10.1, 10.2, "10.0.0.6:8443", "connect", "connection refused")
    made.trace.attempt_began = 10.2
    server, failed, client = spans_of(made)
    assert (failed.is_error, failed.parent_id) == (True, server.span_id)
    assert failed.attributes["error.type"] == "connect"
    assert failed.attributes["server.address"] == "10.0.0.6"
    assert "http.request.resend_count" not in failed.attributes
    assert client.attributes["http.request.resend_count"] == 1
    assert client.began == failed.ended
    assert len({server.span_id, failed.span_id, client.span_id}) == 3


def test_nobody_reached_is_an_error_of_ours() -> None:
    (server,) = asked_nobody(status=502, failure=Failure.CONNECT_REFUSED, detail="connection refused")
    assert (server.is_error, server.attributes["error.type"]) == (True, "upstream_refused")
    assert server.attributes["meshproxy.detail"] == "connection refused"


def test_an_upstream_that_said_nothing_has_no_status() -> None:
    server, client = spans_of(sampled(status=502, failure=Failure.UPSTREAM_CLOSED))
    assert server.attributes["http.response.status_code"] == 502
    assert "http.response.status_code" not in client.attributes
    assert (client.is_error, client.attributes["error.type"]) == (True, "upstream_closed")


def test_an_answer_that_broke_off_has_the_status_it_began_with() -> None:
    _, client = spans_of(sampled(status=200, failure=Failure.RESPONSE_TRUNCATED))
    assert (client.attributes["http.response.status_code"], client.is_error) == (200, True)


def test_a_caller_who_goes_away_is_nobodys_error() -> None:
    server, client = spans_of(sampled(status=0, answered=0.0, failure=Failure.CLIENT_GONE))
    assert (server.is_error, client.is_error) == (False, False)
    assert server.attributes["error.type"] == "client_gone"


def test_unix_sockets_have_no_port() -> None:
    made = sampled()
    server, client = spans_of(replace(made, scene=replace(made.scene, peer="unix", upstream="unix:/run/api.sock")))
    assert "network.peer.address" not in server.attributes
    assert client.attributes["server.address"] == "/run/api.sock"
    assert client.attributes["url.full"] == "http://localhost/orders/17"


def test_a_trace_that_begins_here_has_no_parent() -> None:
    made = sampled()
    made.trace.parent_id = b""
    server, client = spans_of(made)
    assert (server.parent_id, server.parent_is_remote) == ("", False)
    assert (client.parent_id, client.parent_is_remote) == (server.span_id, False)
