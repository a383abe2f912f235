"""Audit mode is how an allow-list is tried before it is enforced: it sums up who would be denied what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, underneath
from tests.scenarios.changes import allow, reload_changes, unix_admin
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, meshproxy

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

AUDIT = 'mode = "audit"'


def test_the_summary_says_who_what_how_often_and_what_came_nearest(stage: Stage) -> None:
    origin = stage.keep(Origin())
    allow(stage, "/web", more='methods = ["GET"]\npaths = "/orders"')
    tables = unix_admin("api") + inbound(forward=origin.address, protocol="http", more=AUDIT)
    api = stage.sidecar("api", tables)

    asked = {"/web": [("GET", "/orders"), ("POST", "/orders"), ("GET", "/refunds")], "/batch": [("GET", "/orders")] * 3}
    for path, requests in asked.items():
        with mtls_caller(api, client_context(stage.identity(path))) as caller:
            assert [caller.ask(*request).status for request in requests] == [200] * len(requests)
    assert len(origin.requests) == 6

    web, batch = "spiffe://mesh.test/web", "spiffe://mesh.test/batch"
    objections = api.status().objections
    assert [(each.outcome, each.caller, each.asked, each.reason, each.count) for each in objections] == [
        ("would_deny", batch, "GET /orders", "no_rule", 3),
        ("would_deny", web, "POST /orders", "method", 1),
        ("would_deny", web, "GET /refunds", "path", 1),
    ]
    assert objections[0].nearest == "no rule comes near"
    assert objections[1].nearest.startswith('rule "web-calls"')
    assert objections[2].nearest.startswith('rule "web-calls"')
    told = api.log.event("would_deny", caller=web, reason="method")
    assert (told["level"], told["method"], told["path"]) == ("info", "POST", "/orders")
    assert "web-calls" in told.text("nearest_rule")
    counted = {"listener": "api", "decision": "would_deny", "rule": "", "mode": "audit"}
    assert api.metric("meshproxy_authz_decisions_total", reason="no_rule", **counted) == 3
    assert api.metric("meshproxy_authz_decisions_total", reason="method", **counted) == 1
    said = meshproxy("status", api.file).stdout
    assert "would deny" in said
    assert "POST /orders" in said


def test_enforcing_it_live_ends_what_was_only_let_pass(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    allow(stage, "/web")
    audit = unix_admin("api") + inbound(forward=service.address, more=AUDIT)
    api = stage.sidecar("api", audit)
    contexts = [client_context(stage.identity(path)) for path in ("/web", "/batch")]
    with tls_dial(api.address("api"), contexts[0]) as web, tls_dial(api.address("api"), contexts[1]) as batch:
        for caller in (web, batch):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"

        api.file.write_text(api.file.read_text().replace(AUDIT, ""))
        reload_changes(api)

        assert underneath(batch) == (b"", Ended.RESET)
        web.sendall(b"still here")
        assert web.recv(10) == b"still here"

    line = api.log.connection(end="denied")
    assert (line.caller, line.decision, line.mode) == ("spiffe://mesh.test/batch", "would_deny", "audit")
    assert "no longer granted (no_rule)" in line.detail
