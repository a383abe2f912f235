"""An expired certificate, and one that is not valid yet, are refused with their own words."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage


@pytest.mark.parametrize(
    ("word", "alert"),
    [("expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"), ("not_yet_valid", "SSLV3_ALERT_BAD_CERTIFICATE")],
)
def test_caller_outside_its_certificates_time_is_refused(stage: Stage, mesh: MeshCa, word: str, alert: str) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = mesh.issue(
        "/web", into=stage.workspace / word, expired=word == "expired", not_yet_valid=word == "not_yet_valid"
    )

    with tls_dial(api.address("api"), client_context(web)) as caller, pytest.raises(ssl.SSLError) as refusal:
        caller.recv(1)

    assert refusal.value.reason == alert
    assert api.log.event("handshake_failed")["reason"] == word
    assert service.visits == []
