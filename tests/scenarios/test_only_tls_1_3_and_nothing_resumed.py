"""Inbound is TLS 1.3 only and hands out no tickets: every connection is judged on a certificate presented in it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, dial, echo, tls_dial
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_tls_1_2_is_refused_with_its_reason(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    context = client_context(stage.identity("/web"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    with dial(api.address("api")) as sock, pytest.raises(ssl.SSLError) as refusal:
        context.wrap_socket(sock)

    assert refusal.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"
    failed = api.log.event("handshake_failed")
    assert (failed["reason"], failed["detail"]) == ("protocol_version", "the peer does not offer TLS 1.3")
    assert service.visits == []


def test_no_ticket_is_handed_out(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))

    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        assert caller.version() == "TLSv1.3"
        assert caller.session is not None
        assert not caller.session.has_ticket
