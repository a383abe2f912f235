"""`server_name` and `alpn` are what a far end sees in our ClientHello; without them we say neither."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, echo, exchange
from tests.scenarios.stage import outbound

if TYPE_CHECKING:
    import socket

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage


@pytest.mark.parametrize(
    ("more", "heard"),
    [
        ("", (None, None)),
        ('server_name = "ledger.internal"\nalpn = ["h2", "http/1.1"]', ("ledger.internal", "h2")),
    ],
    ids=["neither", "both"],
)
def test_outbound_says_server_name_and_alpn_as_told(
    stage: Stage, more: str, heard: tuple[str | None, str | None]
) -> None:
    api = stage.identity("/api")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(api.chain, api.key)
    context.load_verify_locations(api.bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    said: list[str | None] = []

    def note(_sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        said.append(name)

    context.sni_callback = note

    def tls_echo(sock: socket.socket, visit: Visit) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            said.append(tls.selected_alpn_protocol())
            echo(tls, visit)
            tls.unwrap().close()

    far = stage.keep(Service(tls_echo))
    web = stage.sidecar("web", outbound(endpoints=[far.address], more=more))

    assert exchange(web.address("to-api"), b"hello") == b"hello"
    assert tuple(said) == heard
    assert web.log.connection().end == "clean"
