"""A bare FIN on the TLS side is truncation: what came is delivered, and the application sees RST, never an end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, Wire, client_context, dial, echo, read_to_end, tls_dial
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_a_wire_cut_in_mid_stream_is_a_reset_for_both_applications(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    wire = stage.keep(Wire(api.address("api")))
    web = stage.sidecar("web", outbound(endpoints=[wire.address]))

    with dial(web.address("to-api")) as application:
        application.sendall(b"half a sent")
        assert application.recv(64) == b"half a sent"
        wire.cut()
        assert read_to_end(application) == (b"", Ended.RESET)

    assert service.visit().received == b"half a sent"
    assert service.visit().ended is Ended.RESET
    for sidecar in (api, web):
        line = sidecar.log.connection(end="truncated")
        assert (line.side, line.detail) == ("tls", "the peer ended without close_notify")
        assert sidecar.metric("meshproxy_connections_total", listener=line.listener, end="truncated") == 1


def test_a_lenient_listener_passes_a_bare_fin_on_as_an_end(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more='peer_eof = "lenient"'))

    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
        caller.sendall(b"all of it")
        assert caller.recv(64) == b"all of it"
        caller.shutdown(socket.SHUT_WR)
        assert service.visit().ended is Ended.EOF

    assert service.visit().received == b"all of it"
    line = api.log.connection(end="clean")
    assert line.detail == "the peer ended without close_notify"
    assert api.metric("meshproxy_bare_fins_total", listener="api") == 1
