"""`mode = "audit"` lets pass what no rule grants, and logs what enforcing would do. A certificate is still demanded."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, exchange, tls_dial
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_audit_mode_lets_pass_and_tells(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more='mode = "audit"'))
    stranger = stage.sidecar("stranger", outbound(endpoints=[api.address("api")]))

    assert exchange(stranger.address("to-api"), b"hello") == b"hello"

    line = api.log.connection(end="clean")
    assert (line.decision, line.rule, line.reason, line.mode) == ("would_deny", "", "no_rule", "audit")
    assert api.log.event("would_deny")["caller"] == "spiffe://mesh.test/stranger"
    nobody = client_context(None, trusting=stage.identity("/web"))
    with tls_dial(api.address("api"), nobody) as caller, pytest.raises(ssl.SSLError):
        caller.recv(1)
