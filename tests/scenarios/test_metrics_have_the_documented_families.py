"""`/metrics` is what a Prometheus server scrapes, with the families and labels that dashboards are built on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, dial, echo, exchange, listen_to, read_to_end
from tests.scenarios.stage import inbound, outbound, poll
from tests.trusting import say

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

DAY = 86_400


def families(sidecar: Sidecar) -> set[str]:
    return {name for name, _, _ in sidecar.samples()}


def test_metrics_have_the_documented_families(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=["127.0.0.1:9", api.address("api")]))
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    with dial(api.address("api")) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        read_to_end(stranger)
    poll(lambda: api.status().listeners[0].ended == {"clean": 1}, "the connection told")

    assert api.get("/metrics").content_type.startswith("text/plain; version=0.0.4")
    decision = {"listener": "api", "decision": "allow", "rule": "web-calls", "mode": "enforce", "reason": "granted"}
    assert api.metric("meshproxy_authz_decisions_total", **decision) == 1
    assert api.metric("meshproxy_handshake_failures_total", listener="api", reason="not_tls") == 1
    assert api.metric("meshproxy_connections_total", listener="api", end="clean") == 1
    assert api.metric("meshproxy_connections_open", listener="api") == 0
    assert api.metric("meshproxy_bytes_total", listener="api", direction="in") == 5
    assert api.metric("meshproxy_bytes_total", listener="api", direction="out") == 5
    assert api.metric("meshproxy_identity_ready") == 1
    assert api.metric("meshproxy_identity_generation") == 1
    assert api.metric("meshproxy_log_lines_dropped") == 0
    for nothing in ("sequence", "entries", "age_seconds", "stale"):
        assert api.metric(f"meshproxy_deny_list_{nothing}") == 0
    assert {
        "meshproxy_bundle_sequence",
        "meshproxy_deny_list_sequence",
        "meshproxy_federated_trust_domains",
    } <= families(api)
    assert DAY - 600 < api.metric("meshproxy_certificate_expiry_seconds", certificate="leaf") <= DAY
    assert api.metric("meshproxy_certificate_expiry_seconds", certificate="intermediate") > 300 * DAY
    assert api.metric("meshproxy_certificate_expiry_seconds", certificate="root") > 3000 * DAY
    assert web.metric("meshproxy_upstream_failures_total", listener="to-api", phase="connect") == 1


def test_what_the_ca_says_of_trust_is_in_the_metrics(stage: Stage) -> None:
    file = stage.configure("api", inbound(forward=stage.keep(Service(echo)).address))
    say(stage.workspace / "identity-api", stage.mesh, number=7)
    api = stage.run(file)
    assert api.metric("meshproxy_deny_list_sequence") == 7
    assert api.metric("meshproxy_bundle_sequence") == 1
    assert api.metric("meshproxy_trust_loads_total", result="loaded") >= 1
    assert 0 <= api.metric("meshproxy_deny_list_age_seconds") < 60


def test_no_peer_can_make_a_label(stage: Stage) -> None:
    """Labels come from the settings and fixed words: a thousand strangers do not grow the exposition."""
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))

    for name in ("/mallory-1", "/mallory-2"):
        stranger = stage.sidecar(name.strip("/"), outbound(endpoints=[api.address("api")]))
        listen_to(stranger.address("to-api"))

    poll(lambda: api.status().listeners[0].ended == {"denied": 2}, "both denied")
    assert b"mallory" not in api.get("/metrics").body
