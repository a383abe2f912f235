"""Who connects and says nothing, or stops in mid-ClientHello, is gone at `handshake_timeout`; others are served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, dial, echo, read_to_end, tls_exchange
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

# The beginning of a record that announces a ClientHello of 508 bytes (RFC 8446 sections 5.1 and 4.1.2).
HALF_A_CLIENT_HELLO = bytes.fromhex("16030102000100 01fc0303") + bytes(100)


@pytest.mark.parametrize("said", [b"", HALF_A_CLIENT_HELLO], ids=["silent", "half-a-client-hello"])
def test_silent_client_is_reaped_at_handshake_timeout(stage: Stage, said: bytes) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more='handshake_timeout = "600ms"'))
    web = client_context(stage.identity("/web"))

    began = time.monotonic()
    with dial(api.address("api")) as silent:
        silent.sendall(said)
        assert tls_exchange(api.address("api"), web, b"hello") == b"hello"
        assert read_to_end(silent) == (b"", Ended.RESET)
    lasted = time.monotonic() - began

    assert 0.55 < lasted < 5
    failed = api.log.event("handshake_failed")
    assert (failed["reason"], failed["detail"]) == ("timeout", "no handshake within 0.6 s")
    assert api.status().listeners[0].open == 0
