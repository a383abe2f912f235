"""Each request on a connection is judged by itself: by who calls, by method and by path."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.http_actors import request

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Origin, Pair

ALLOW = """
[[allow]]
name = "charges"
from = "/web"
methods = ["POST"]
paths = ["/charges", "/charges/*/refunds"]

[[allow]]
name = "docs"
from = ["/web", "/batch/*"]
methods = ["GET"]
paths = "/docs/**"
"""


@pytest.mark.parametrize(
    ("method", "target", "rule"),
    [
        ("POST", "/charges", "charges"),
        ("POST", "/charges/7/refunds", "charges"),
        ("GET", "/docs", "docs"),
        ("GET", "/docs/", "docs"),
        ("GET", "/docs/a/b", "docs"),
        ("GET", "/docs/%61", "docs"),
        ("GET", "/docs?from=/charges", "docs"),
    ],
)
def test_what_a_rule_grants_is_served(pair: Pair, origin: Origin, method: str, target: str, rule: str) -> None:
    with pair.caller() as caller:
        answer = caller.ask(method, target)

    assert (answer.status, answer.body) == (200, b"ok")
    assert origin.targets() == [target.replace("%61", "a")]  # forwarded in the form that was judged
    line = pair.api.log.request()
    assert (line.caller, line.decision, line.rule, line.reason) == ("spiffe://mesh.test/web", "allow", rule, "granted")


@pytest.mark.parametrize(
    ("method", "target", "reason"),
    [
        ("GET", "/charges", "method"),
        ("post", "/charges", "method"),
        ("HEAD", "/docs/a", "method"),  # GET does not imply HEAD
        ("TRACE", "/docs/a", "method"),
        ("POST", "/charges/", "path"),  # /a is not /a/
        ("POST", "/Charges", "path"),
        ("POST", "/charges/7/8/refunds", "path"),
        ("GET", "/docsx", "path"),
        ("GET", "/?/docs", "path"),
        ("OPTIONS", "*", "path"),
    ],
)
def test_what_no_rule_grants_is_refused(pair: Pair, origin: Origin, method: str, target: str, reason: str) -> None:
    with pair.caller() as caller:
        answer = caller.ask(method, target)
        assert answer.status == 403
        assert caller.ask("GET", "/docs").status == 200  # the connection is kept

    assert origin.targets() == ["/docs"]
    line = pair.api.log.request(status=403)
    assert (line.decision, line.rule, line.reason) == ("deny", "", reason)
    assert (line.method, line.path) == (method, target.partition("?")[0])
    assert (line.failure, line.upstream) == ("denied", "")


def test_the_refusal_tells_the_caller_enough_and_no_more(pair: Pair) -> None:
    with pair.mtls_caller() as caller:
        answer = caller.ask("GET", "/charges", "X-Request-Id: asked-1")

    assert answer.value("content-type") == "application/problem+json"
    assert answer.value("proxy-status") == "meshproxy; error=http_request_denied"
    assert answer.value("x-request-id") == "asked-1"
    told = json.loads(answer.body)
    assert (told["status"], told["request_id"]) == (403, "asked-1")
    assert b"charges" not in answer.body
    assert b"rule" not in answer.body
    assert b"web" not in answer.body
    assert pair.api.log.request(request_id="asked-1").status == 403


def test_every_pipelined_request_is_judged(pair: Pair, origin: Origin) -> None:
    asked = [("GET", "/docs/1"), ("GET", "/charges"), ("POST", "/charges"), ("GET", "/secret"), ("GET", "/docs/2")]

    with pair.mtls_caller() as caller:
        caller.say(b"".join(request(method, target) for method, target in asked))
        answers = [caller.hear() for _ in asked]

    assert [answer.status for answer in answers] == [200, 403, 200, 403, 200]
    assert origin.targets() == ["/docs/1", "/charges", "/docs/2"]
    pair.api.log.request(path="/docs/2")
    assert [line.get("upstream", "") != "" for line in pair.api.log.seen("request")] == [True, False, True, False, True]


def test_a_caller_no_rule_names_is_refused_politely(pair: Pair, origin: Origin) -> None:
    with pair.mtls_caller("/mallory") as mallory:
        assert mallory.ask("GET", "/docs").status == 403
    with pair.mtls_caller("/batch/nightly") as batch:
        assert batch.ask("GET", "/docs").status == 200
        assert batch.ask("POST", "/charges").status == 403

    assert origin.targets() == ["/docs"]
    assert pair.api.log.request(status=403).reason == "no_rule"


def test_a_body_that_was_refused_is_read_over(pair: Pair, origin: Origin) -> None:
    """Up to 64 KiB; whoever sends more is answered, and the connection ends."""
    with pair.mtls_caller() as caller:
        assert caller.ask("PUT", "/charges", body=bytes(60_000)).status == 403
        assert caller.ask("POST", "/charges", body=b"1").status == 200
        caller.say(request("PUT", "/charges", "Content-Length: 10000000"))
        assert caller.hear().status == 403

    assert origin.targets() == ["/charges"]


def test_the_denial_names_the_request_without_its_query_and_the_nearest_rule(pair: Pair) -> None:
    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/charges?card=visa-4111").status == 403

    denied = pair.api.log.event("denied")
    assert denied["caller"] == "spiffe://mesh.test/web"
    assert denied["reason"] == "method"
    assert denied["method"] == "GET"
    assert denied["path"] == "/charges"
    assert denied.text("policy").endswith("web.allow.toml")
    assert 'rule "charges"' in denied.text("nearest_rule")
    assert "web.allow.toml:2)" in denied.text("nearest_rule")
    assert pair.api.status().denials[-1].reason == "method"


def test_both_sides_tell_one_story(pair: Pair) -> None:
    """One trace id and one request id, from the caller's application to the service."""
    with pair.caller() as caller:
        answer = caller.ask("POST", "/charges?card=visa-4111", body=b"12345")

    near, far = pair.web.log.request(), pair.api.log.request()
    assert (near.direction, far.direction) == ("outbound", "inbound")
    assert near.request_id == far.request_id == answer.value("x-request-id")
    assert near.trace_id == far.trace_id
    assert re.fullmatch("[0-9a-f]{32}", far.trace_id)
    for line in (near, far):
        assert (line.method, line.path, line.status) == ("POST", "/charges", 200)
        assert (line.bytes_in, line.bytes_out) == (5, 2)
        assert line.duration_ms >= line.answer_ms > 0
        assert line.failure == ""
    assert near.upstream_id == "spiffe://mesh.test/api"
    assert near.upstream == pair.api.address("api")
    assert far.upstream
    assert far.policy.endswith("web.allow.toml@1")
    assert "visa" not in str(pair.web.log)
    assert "visa" not in str(pair.api.log)


def test_a_trace_that_has_begun_goes_on(pair: Pair, origin: Origin) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    with pair.caller() as caller:
        caller.ask("GET", "/docs", f"traceparent: {parent}", "tracestate: a=1")

    assert origin.requests[0].value("traceparent") == parent
    assert origin.requests[0].value("tracestate") == "a=1"
    assert pair.api.log.request().trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
