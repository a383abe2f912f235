"""curl with a client certificate, and curl that knows nothing of TLS behind a sidecar: HTTP in tcp mode, clean ends."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service
from tests.scenarios.programs import require
from tests.scenarios.stage import PATIENCE, inbound, outbound

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage


def web_page(sock: socket.socket, visit: Visit) -> None:
    """Answer one request after the other, and leave the ending to the client."""
    while data := sock.recv(65536):
        visit.take(data)
        if data.endswith(b"\r\n\r\n"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")


def curl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [require("curl"), "--silent", "--show-error", "--max-time", "10", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def over_tls(as_whom: Identity | None, trusting: Identity, address: str) -> subprocess.CompletedProcess[str]:
    certificate: list[str | Path] = [] if as_whom is None else ["--cert", as_whom.chain, "--key", as_whom.key]
    return curl("--cacert", trusting.bundle, *certificate, "--connect-to", f"::{address}", "https://api.test/page")


def test_curl_calls_with_a_certificate(stage: Stage) -> None:
    service = stage.keep(Service(web_page))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.identity("/web")

    got = over_tls(web, web, api.address("api"))

    assert (got.returncode, got.stdout) == (0, "ok\n"), got.stderr
    line = api.log.connection()
    assert (line.end, line.caller) == ("clean", "spiffe://mesh.test/web")
    assert bytes(service.visit().received).startswith(b"GET /page HTTP/1.1\r\nHost: api.test\r\n")


def test_curl_calls_without_a_certificate(stage: Stage) -> None:
    service = stage.keep(Service(web_page))
    api = stage.sidecar("api", inbound(forward=service.address))

    got = over_tls(None, stage.identity("/web"), api.address("api"))

    assert got.returncode == 56  # CURLE_RECV_ERROR
    assert "certificate required" in got.stderr
    assert api.log.event("handshake_failed")["reason"] == "no_certificate"
    assert service.visits == []


def test_curl_calls_through_a_sidecar(stage: Stage) -> None:
    service = stage.keep(Service(web_page))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    got = curl(f"http://{web.address('to-api')}/page")

    assert (got.returncode, got.stdout) == (0, "ok\n"), got.stderr
    assert api.log.connection().end == "clean"
    assert web.log.connection().end == "clean"
