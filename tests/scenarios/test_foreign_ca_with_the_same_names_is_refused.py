"""Names prove nothing: an identity of the same name from another CA is refused on both sides."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, listen_to, tls_dial
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage


def test_a_foreign_caller_hears_unknown_ca(stage: Stage, foreign: MeshCa) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    impostor = client_context(foreign.issue("/web"), trusting=stage.identity("/web"))

    with tls_dial(api.address("api"), impostor) as caller, pytest.raises(ssl.SSLError) as refusal:
        caller.recv(1)

    assert refusal.value.reason == "TLSV1_ALERT_UNKNOWN_CA"
    assert api.log.event("handshake_failed")["reason"] == "unknown_ca"
    assert service.visits == []


def test_a_foreign_server_hears_nothing_of_us(stage: Stage, foreign: MeshCa) -> None:
    service = stage.keep(Service(echo))
    impostor = stage.sidecar("api", inbound(forward=service.address), identity=foreign.issue("/api").directory)
    web = stage.sidecar("web", outbound(endpoints=[impostor.address("api")]))

    heard = listen_to(web.address("to-api"))

    assert heard == (b"", Ended.RESET)
    failed = web.log.event("upstream_failed")
    assert (failed["phase"], failed["endpoint"]) == ("handshake", impostor.address("api"))
    assert "unknown_ca" in failed.text("detail")
    assert web.log.connection(end="failed").bytes_in == 0
    assert service.visits == []
