"""A caller no rule grants is cut off by RST right after the handshake; nothing reaches the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, client_context, echo, listen_to, tls_dial, underneath
from tests.scenarios.stage import WORKERS, inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_the_denial_names_identity_file_generation_and_nearest_rule(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))

    with tls_dial(api.address("api"), client_context(stage.identity("/wep"))) as caller:
        heard = underneath(caller)

    assert heard == (b"", Ended.RESET)  # no close_notify and no FIN: nobody takes it for an answer

    denied = api.log.event("denied")
    assert denied["caller"] == "spiffe://mesh.test/wep"
    assert denied["reason"] == "no_rule"
    assert denied.text("policy").endswith("web.allow.toml")
    assert denied["generation"] == 1
    assert 'rule "web-calls"' in denied.text("nearest_rule")
    assert "web.allow.toml:1)" in denied.text("nearest_rule")
    line = api.log.connection(end="denied")
    assert (line.decision, line.rule, line.bytes_in, line.bytes_out) == ("deny", "", 0, 0)
    assert line.id == denied["id"]
    assert service.visits == []
    labels = {"listener": "api", "decision": "deny", "rule": "", "mode": "enforce", "reason": "no_rule"}
    assert api.metric("meshproxy_authz_decisions_total", **labels) == 1
    [remembered] = api.status().denials
    assert remembered.caller == "spiffe://mesh.test/wep"


def test_the_callers_sidecar_says_what_it_probably_is(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    mallory = stage.sidecar("mallory", outbound(endpoints=[api.address("api")]))

    heard = listen_to(mallory.address("to-api"))

    assert heard == (b"", Ended.RESET)
    refused = mallory.log.connection(end="refused")
    assert refused.detail == "closed before any byte: probably refused by its allow-list"
    assert refused.upstream_id == "spiffe://mesh.test/api"
    assert service.visits == []


def test_an_empty_list_lets_nobody_in(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    stage.write("nobody.allow.toml", "allow = []\n")
    api = stage.sidecar("api", inbound(forward=service.address, policy="nobody.allow.toml"))

    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
        assert underneath(caller) == (b"", Ended.RESET)

    assert api.log.event("denied")["nearest_rule"] == "no rule comes near"


def test_denials_are_all_counted_and_told_at_a_bounded_rate(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    context = client_context(stage.identity("/mallory"))

    many = 40 * WORKERS  # each worker tells at that rate
    for _ in range(many):
        with tls_dial(api.address("api"), context) as caller:
            assert underneath(caller) == (b"", Ended.RESET)

    poll(lambda: api.status().listeners[0].ended.get("denied") == many, "all denials counted")
    assert 20 <= len(api.log.seen("denied")) < many
    assert service.visits == []
