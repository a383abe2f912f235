"""A caller that presents no certificate hears why: the alert certificate_required (RFC 8446 section 6.2)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_caller_without_certificate_is_refused(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    nobody = client_context(None, trusting=stage.identity("/web"))

    with tls_dial(api.address("api"), nobody) as caller, pytest.raises(ssl.SSLError) as refusal:
        caller.recv(1)

    assert refusal.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert api.log.event("handshake_failed")["reason"] == "no_certificate"
    labels = {"listener": "api", "reason": "no_certificate"}
    assert api.metric("meshproxy_handshake_failures_total", **labels) == 1
    assert api.log.seen("connection") == []
    assert service.visits == []
