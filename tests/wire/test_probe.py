"""The probe against real endpoints on loopback: what it shows of each, and one clear sentence when it shows nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.probe import ClientIdentity, IdentityUnusableError, Outcome, probe
from tests.factory import Identity, MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def web(mesh: MeshCa) -> Identity:
    return mesh.issue("/web")


def offered(identity: Identity) -> ClientIdentity:
    return ClientIdentity(identity.chain, identity.key)


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[TcpAddress]:
    """One connection on loopback, handled in a thread."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with suppress(OSError):
                plain, _ = listener.accept()
                with plain, suppress(OSError):
                    handle(plain)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield TcpAddress("127.0.0.1", listener.getsockname()[1])
        finally:
            listener.close()
            thread.join()


def tls_server(
    identity: Identity, *, ask: bool = False, version: ssl.TLSVersion | None = None, alpn: str | None = None
) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.chain, identity.key)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(identity.bundle)
    if version is not None:
        context.maximum_version = version
    if alpn is not None:
        context.set_alpn_protocols([alpn])

    def handle(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as tls:
            tls.recv(1)  # until the probe hangs up

    return handle


def test_a_tls_endpoint_shows_its_whole_chain(mesh: MeshCa, web: Identity) -> None:
    with serving(tls_server(web, alpn="http/1.1")) as address:
        seen = probe(address, timeout=5)
    assert (seen.outcome, seen.tls_version, seen.alpn) == (Outcome.COMPLETED, "TLSv1.3", "http/1.1")
    assert seen.cipher is not None
    assert seen.chain[0] == web.der
    assert len(seen.chain) == 2
    assert seen.address == str(address)


def test_an_endpoint_that_asks_for_an_identity_is_seen_and_its_refusal_told(web: Identity) -> None:
    with serving(tls_server(web, ask=True)) as address:
        seen = probe(address, timeout=5)
    assert seen.outcome is Outcome.REFUSED_AFTERWARDS
    assert seen.detail == "the peer asks for our certificate"
    assert seen.chain[0] == web.der
    assert seen.tls_version == "TLSv1.3"


def test_with_an_identity_it_is_let_in(web: Identity) -> None:
    with serving(tls_server(web, ask=True)) as address:
        assert probe(address, timeout=5, identity=offered(web)).outcome is Outcome.COMPLETED


def test_a_foreign_identity_is_refused_in_words(web: Identity, tmp_path: Path) -> None:
    foreign = make_mesh_ca(tmp_path).issue("/web")
    with serving(tls_server(web, ask=True)) as address:
        seen = probe(address, timeout=5, identity=offered(foreign))
    assert seen.outcome is Outcome.REFUSED_AFTERWARDS
    assert "does not know the CA" in seen.detail


def test_tls_12_is_seen_as_such_and_its_chain_even_when_it_fails(web: Identity) -> None:
    with serving(tls_server(web, version=ssl.TLSVersion.TLSv1_2)) as address:
        assert probe(address, timeout=5).tls_version == "TLSv1.2"
    with serving(tls_server(web, ask=True, version=ssl.TLSVersion.TLSv1_2)) as address:
        seen = probe(address, timeout=5)
    assert seen.outcome is Outcome.TLS_FAILED
    assert seen.chain[0] == web.der


def test_a_reset_right_after_the_handshake_points_at_the_allow_list(web: Identity) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(web.chain, web.key)

    def refuse(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as tls:
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(refuse) as address:
        seen = probe(address, timeout=5)
    assert seen.outcome is Outcome.REFUSED_AFTERWARDS
    assert seen.chain


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Outcome.NOT_TLS),
        (b"220 mail.test ESMTP\r\n", Outcome.NOT_TLS),
        (b"\x15\x03\x03\x00\x02\x02\x28", Outcome.TLS_FAILED),  # the alert handshake_failure
        (b"", Outcome.TLS_FAILED),
    ],
)
def test_what_is_not_tls_or_fails_is_told_apart(answer: bytes, outcome: Outcome) -> None:
    def handle(plain: socket.socket) -> None:
        plain.recv(4096)
        plain.sendall(answer)
        plain.shutdown(socket.SHUT_WR)
        plain.recv(4096)

    with serving(handle) as address:
        seen = probe(address, timeout=5)
    assert (seen.outcome, seen.chain) == (outcome, ())
    assert seen.detail


def test_a_silent_endpoint_is_given_up_in_time() -> None:
    def keep_silent(plain: socket.socket) -> None:
        while plain.recv(4096):
            pass

    with serving(keep_silent) as address:
        seen = probe(address, timeout=0.05)
    assert seen.outcome is Outcome.TIMED_OUT
    assert "did not end within 0.05 s" in seen.detail


def test_a_trickling_endpoint_cannot_hold_the_probe() -> None:
    """A byte now and then restarts a socket timeout, but not the deadline."""

    def trickle(plain: socket.socket) -> None:
        record = b"\x16\x03\x03\x40\x00"
        while True:
            plain.sendall(record[:1])
            record = record[1:] or b"\0"
            plain.settimeout(0.01)
            with suppress(TimeoutError):
                if plain.recv(4096) == b"":
                    return

    with serving(trickle) as address:
        assert probe(address, timeout=0.1).outcome is Outcome.TIMED_OUT


def test_nobody_there(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    assert probe(TcpAddress("127.0.0.1", port), timeout=5).detail == "the connection was refused: nobody listens there"
    missing = probe(UnixAddress(str(tmp_path / "none.sock")), timeout=5)
    assert (missing.outcome, missing.detail) == (Outcome.UNREACHABLE, "there is no such socket")


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    seen = probe(TcpAddress("no.such.name.invalid", 443), timeout=5)
    assert (seen.outcome, seen.detail) == (
        Outcome.UNREACHABLE,
        "the name cannot be resolved: Name or service not known",
    )


def test_a_unix_socket_is_probed_too(web: Identity, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        handle = tls_server(web)

        def serve() -> None:
            plain, _ = listener.accept()
            with plain, suppress(OSError):
                handle(plain)

        thread = threading.Thread(target=serve)
        thread.start()
        seen = probe(UnixAddress(str(path)), timeout=5)
        thread.join()
    assert seen.chain[0] == web.der


def test_an_identity_that_cannot_be_loaded_is_said_before_connecting(web: Identity, tmp_path: Path) -> None:
    other = make_mesh_ca(tmp_path).issue("/web")
    for unusable in (ClientIdentity(web.chain, other.key), ClientIdentity(web.chain, tmp_path / "none")):
        with pytest.raises(IdentityUnusableError, match=r"mismatch|no such file"):
            probe(TcpAddress("127.0.0.1", 1), timeout=5, identity=unusable)
