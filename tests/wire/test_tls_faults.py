"""Every way a handshake fails, over real sockets: which fault is counted, and what a person reads."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from meshproxy.wire.tls import TlsConnection, receive
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault, alert_in_words, breach_in_words, classify
from tests.shaking import shake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.wire.conftest import Wires

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class World:
    """One CA of ours, and a stranger's of the same kind."""

    ours: trustme.CA
    theirs: trustme.CA

    def server(self) -> ssl.SSLContext:
        return self._context(ssl.PROTOCOL_TLS_SERVER, self.ours.issue_cert("server.test"))

    def client(self, certificate: trustme.LeafCert | None) -> ssl.SSLContext:
        return self._context(ssl.PROTOCOL_TLS_CLIENT, certificate)

    def _context(self, kind: int, certificate: trustme.LeafCert | None) -> ssl.SSLContext:
        context = ssl.SSLContext(kind)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.ours.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def world() -> World:
    return World(trustme.CA(), trustme.CA())


async def fault_of(connection: TlsConnection) -> tuple[HandshakeFault, str]:
    with trio.fail_after(5), pytest.raises(HandshakeError) as caught:
        await shake(connection)
    assert str(caught.value) == f"{caught.value.fault}: {caught.value.detail}"
    return caught.value.fault, caught.value.detail


CLIENTS: dict[str, tuple[Callable[[World], trustme.LeafCert | None], HandshakeFault, str]] = {
    "no certificate": (lambda _: None, HandshakeFault.NO_CERTIFICATE, "presented no certificate"),
    "a foreign CA": (lambda w: w.theirs.issue_cert("x.test"), HandshakeFault.UNKNOWN_CA, "local issuer"),
    "expired": (
        lambda w: w.ours.issue_cert("x.test", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
        HandshakeFault.EXPIRED,
        "certificate has expired",
    ),
    "of tomorrow": (
        lambda w: w.ours.issue_cert("x.test", not_before=NOW + DAY, not_after=NOW + 2 * DAY),
        HandshakeFault.NOT_YET_VALID,
        "certificate is not yet valid",
    ),
}


@pytest.mark.parametrize("case", CLIENTS)
async def test_a_client_that_cannot_authenticate_is_named_and_told(wires: Wires, world: World, case: str) -> None:
    make, fault, words = CLIENTS[case]
    near, far = wires.tcp()
    client = TlsConnection(near, world.client(make(world)), server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, client)
        found, detail = await fault_of(TlsConnection(far, world.server(), server_side=True))
    assert found is fault
    assert words in detail
    client.incoming.write(await receive(near, 4096))
    with pytest.raises(ssl.SSLError) as caught:
        client.session.read(1)
    assert alert_in_words(caught.value.reason) is not None


async def test_a_server_nobody_vouches_for_is_named_and_told(wires: Wires, world: World) -> None:
    stranger = World(world.theirs, world.ours)
    near, far = wires.tcp()
    heard: list[tuple[HandshakeFault, str]] = []

    async def serve() -> None:
        heard.append(await fault_of(TlsConnection(far, stranger.server(), server_side=True)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = world.client(world.ours.issue_cert("x.test"))
        fault, _ = await fault_of(TlsConnection(near, client, server_side=False))
    assert fault is HandshakeFault.UNKNOWN_CA
    ((told, words),) = heard
    assert (told, words) == (
        HandshakeFault.REFUSED_BY_PEER,
        "the peer does not know the CA that signed our certificate",
    )


async def test_a_peer_without_tls_13_is_named_on_both_sides(wires: Wires, world: World) -> None:
    old = world.client(world.ours.issue_cert("x.test"))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    near, far = wires.tcp()
    heard: list[HandshakeFault] = []

    async def dial() -> None:
        heard.append((await fault_of(TlsConnection(near, old, server_side=False)))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        found = await fault_of(TlsConnection(far, world.server(), server_side=True))
    assert found == (HandshakeFault.PROTOCOL_VERSION, "the peer does not offer TLS 1.3")
    assert heard == [HandshakeFault.PROTOCOL_VERSION]


def abruptly(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


BYTES = {
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HandshakeFault.NOT_TLS, "the peer speaks plain HTTP, not TLS"),
    "a proxy request": (b"CONNECT x:1 HTTP/1.1\r\n\r\n", HandshakeFault.NOT_TLS, "the peer speaks plain HTTP, not TLS"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2p1\r\n", HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "zeros": (bytes(64), HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "a goodbye for a hello": (b"\x15\x03\x03\x00\x02\x01\x00", HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "noise": (bytes(range(200, 256)) * 2, HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "no hello inside": (b"\x16\x03\x01\x00\x05hello", HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
}


@pytest.mark.parametrize("case", BYTES)
async def test_what_is_not_tls_is_named(wires: Wires, world: World, case: str) -> None:
    data, fault, words = BYTES[case]
    near, far = wires.tcp()
    near.send(data)
    assert await fault_of(TlsConnection(far, world.server(), server_side=True)) == (fault, words)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x01\x00\x01\x00"], ids=["at once", "5", "7"])
async def test_a_peer_that_leaves_during_the_handshake_is_closed_or_reset(
    wires: Wires, world: World, sent: bytes
) -> None:
    near, far = wires.tcp()
    near.send(sent)
    near.close()
    fault, words = await fault_of(TlsConnection(far, world.server(), server_side=True))
    assert (fault, words) == (HandshakeFault.CLOSED, "the peer closed the connection during the handshake")

    near, far = wires.tcp()
    near.send(sent)
    abruptly(near)
    fault, words = await fault_of(TlsConnection(far, world.server(), server_side=True))
    assert fault is HandshakeFault.RESET
    assert words == "Connection reset by peer"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "the peer asks for our certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "the peer does not know the CA that signed our certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "the peer says our certificate has expired"),
        ("TLSV1_ALERT_ACCESS_DENIED", "the peer denied us access"),
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "the peer speaks none of the protocols (ALPN) we offered"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "the peer sent the alert internal error"),
        ("SSLV3_ALERT_BAD_RECORD_MAC", "the peer sent the alert bad record mac"),
        ("WRONG_VERSION_NUMBER", None),
        ("", None),
    ],
)
def test_alerts_are_told_in_words(reason: str, words: str | None) -> None:
    assert alert_in_words(reason) == words


def test_only_what_does_not_authenticate_was_changed_on_its_way() -> None:
    assert breach_in_words("DECRYPTION_FAILED_OR_BAD_RECORD_MAC").endswith("they were changed on the wire")
    assert breach_in_words("UNEXPECTED_MESSAGE") == "unexpected message: the peer breaks the rules of TLS"
    assert breach_in_words("") == "TLS protocol error: the peer breaks the rules of TLS"


async def test_a_peer_that_says_too_much_in_its_handshake_is_left(wires: Wires, world: World, tmp_path: Path) -> None:
    """Its chain is longer than any honest one; OpenSSL alone takes 100 KiB of certificates, and keeps them."""
    heavy = world.ours.issue_cert(*(f"{'x' * 50}{number}.test" for number in range(300)))
    leaf = world.ours.issue_cert("x.test")
    chain = b"".join(pem.bytes() for pem in (*leaf.cert_chain_pems, *heavy.cert_chain_pems * 4))
    (tmp_path / "chain.pem").write_bytes(leaf.private_key_pem.bytes() + chain)
    context = world.client(None)
    context.load_cert_chain(tmp_path / "chain.pem")
    near, far = wires.tcp()
    client, server = (
        TlsConnection(near, context, server_side=False),
        TlsConnection(far, world.server(), server_side=True),
    )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_shake_until_left, client)
        fault, words = await fault_of(server)
        abruptly(far)

    assert fault is HandshakeFault.TOO_LARGE
    assert words == "the peer says more than 64 KiB before the handshake is over"


async def _shake_until_left(client: TlsConnection) -> None:
    with contextlib.suppress(OSError):
        await shake(client)


def test_what_no_table_names_is_told_by_openssls_own_words() -> None:
    error = ssl.SSLError(1, "x")
    error.reason = ""
    assert classify(error).detail == "TLS protocol error"
    error.reason = "BAD_EXTENSION"
    assert str(classify(error)) == "protocol_error: bad extension"


def test_an_unlisted_verdict_on_the_chain_is_a_bad_certificate() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = 26, "unsuitable certificate purpose"
    assert str(classify(error)) == "bad_certificate: unsuitable certificate purpose"
