"""Bytes that come before the handshake, instead of it or in the middle of it, never reach anybody as an application's.

(CVE-2023-40217 is of this kind: what a caller had said in clear was read as if it had come by TLS.) Each is refused
with the alert that OpenSSL has for it, if it has found out that a TLS peer is there, and a line that names it.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, dial, echo, read_to_end, tls_exchange
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage


def client_hello() -> bytes:
    """What OpenSSL says first, as one record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def with_compression(hello: bytes) -> bytes:
    """The same offering DEFLATE (RFC 3749), which TLS 1.3 forbids: RFC 8446 section 4.1.2."""
    at = 5 + 4 + 2 + 32  # record header, message header, version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    assert hello[at : at + 2] == b"\1\0"
    body = hello[9:at] + b"\2\1\0" + hello[at + 2 :]
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return hello[:3] + len(message).to_bytes(2, "big") + message


HELLO = client_hello()
HTTP = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
NOT_TLS = "the peer does not speak TLS"


@dataclass(frozen=True)
class Case:
    """What is said, the number of the alert in clear that follows (RFC 8446 section 6; None: none), and the log."""

    said: bytes
    alert: int | None
    reason: str
    detail: str
    ends: bool = False


CASES = {
    "plain HTTP": Case(HTTP, None, "not_tls", "the peer speaks plain HTTP, not TLS"),
    "the preface of HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None, "not_tls", NOT_TLS),
    "a PROXY header": Case(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + HELLO, None, "not_tls", NOT_TLS),
    "a binary PROXY header": Case(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + HELLO, None, "not_tls", NOT_TLS),
    "application bytes first": Case(b"\x17\3\3\0\5hello" + HELLO, 10, "not_tls", NOT_TLS),
    "an alert first": Case(b"\x15\3\3\0\2\2\x28", 10, "not_tls", NOT_TLS),
    "a record that is too long": Case(b"\x16\3\1\xff\xff" + bytes(20_000), 22, "not_tls", NOT_TLS),
    "a hello of SSL 2": Case(b"\x80\x2e\1\0\2\0\x15\0\0\0\x10" + bytes(40), 70, "protocol_error", "unknown protocol"),
    "compression": Case(with_compression(HELLO), 47, "protocol_error", "invalid compression algorithm"),
    "half a hello": Case(HELLO[:100], None, "closed", "the peer closed the connection during the handshake", ends=True),
    # From here on the sidecar has said its own hello, and what follows it is encrypted.
    "HTTP behind the hello": Case(HELLO + HTTP, None, "not_tls", NOT_TLS),
    "application bytes behind the hello": Case(
        HELLO + b"\x17\3\3\0\5hello", None, "protocol_error", "decryption failed or bad record mac"
    ),
    "a second hello": Case(HELLO + HELLO, None, "not_tls", NOT_TLS),
    "the end behind the hello": Case(
        HELLO, None, "closed", "the peer closed the connection during the handshake", ends=True
    ),
}


@pytest.fixture(scope="module")
def services(shared_stage: Stage) -> tuple[Service, Sidecar]:
    service = shared_stage.keep(Service(echo))
    return service, shared_stage.sidecar("api", inbound(forward=service.address))


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(shared_stage: Stage, services: tuple[Service, Sidecar], name: str) -> None:
    service, api = services
    case = CASES[name]
    api.log.turn_page()

    with dial(api.address("api")) as stranger:
        stranger.sendall(case.said)
        if case.ends:
            stranger.shutdown(socket.SHUT_WR)
        heard, _ = read_to_end(stranger)

    told = api.log.event("handshake_failed")
    assert (told["reason"], told["detail"]) == (case.reason, case.detail)
    if case.alert is not None:
        assert heard == bytes((21, 3, 3, 0, 2, 2, case.alert))
    elif not case.said.startswith(HELLO[:5]) or name == "half a hello":
        assert heard == b""
    assert service.visits == []
    tls_exchange(api.address("api"), client_context(shared_stage.identity("/web")), b"hello")
    assert bytes(service.visit(0).received) == b"hello"  # and nothing of what was said before
    service.visits.clear()
