"""What a handshake may be: TLS 1.3, both sides certified, never resumed, judged as an identity afterwards."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from ca.svid import LeafError, LeafFault
from meshproxy.identity.contexts import Contexts, _as_file
from meshproxy.identity.material import read_material
from meshproxy.identity.peer import judge_peer
from meshproxy.settings.schema import IdentitySettings
from meshproxy.wire.tls import TlsConnection, receive
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.shaking import shake

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def web(mesh: MeshCa) -> Contexts:
    return contexts_of(mesh.issue("/web"))


@pytest.fixture(scope="module")
def api(mesh: MeshCa) -> Contexts:
    return contexts_of(mesh.issue("/api"))


def contexts_of(identity: Identity) -> Contexts:
    return Contexts(read_material(IdentitySettings(identity.directory)))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        near, far = socket.socketpair()
        for sock in (near, far):
            stack.enter_context(sock)
            sock.setblocking(False)
        yield near, far


async def shake_in_time(client: TlsConnection, server: TlsConnection) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, client)
            nursery.start_soon(shake, server)


async def test_two_services_of_a_mesh_know_each_other(
    web: Contexts, api: Contexts, mesh: MeshCa, pair: tuple[socket.socket, socket.socket]
) -> None:
    client = TlsConnection(pair[0], web.client(), server_side=False)
    server = TlsConnection(pair[1], api.server(), server_side=True)
    await shake_in_time(client, server)
    now = datetime.now(UTC)
    assert judge_peer(client, home=mesh.trust_domain, now=now).id == mesh.id("/api")
    assert judge_peer(server, home=mesh.trust_domain, now=now).id == mesh.id("/web")
    with pytest.raises(LeafError, match="expired"):
        judge_peer(server, home=mesh.trust_domain, now=now + timedelta(days=30))


async def test_a_leaf_that_openssl_accepts_may_still_be_no_identity(
    api: Contexts, mesh: MeshCa, tmp_path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    """OpenSSL takes two URI SANs from a CA it trusts; we do not."""
    forged = mesh.forge(into=tmp_path / "two", uris=["spiffe://mesh.test/web", "spiffe://mesh.test/admin"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(forged.chain, forged.key)
    server = TlsConnection(pair[1], api.server(), server_side=True)
    await shake_in_time(TlsConnection(pair[0], context, server_side=False), server)
    with pytest.raises(LeafError) as caught:
        judge_peer(server, home=mesh.trust_domain, now=datetime.now(UTC))
    assert caught.value.fault is LeafFault.SEVERAL_URIS


async def test_without_a_certificate_there_is_nobody_to_judge(
    web: Contexts, mesh: MeshCa, pair: tuple[socket.socket, socket.socket]
) -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.load_cert_chain(mesh.issue("/api").chain, mesh.issue("/api").key)
    naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    naked.check_hostname = False
    naked.verify_mode = ssl.CERT_NONE
    server = TlsConnection(pair[1], lax, server_side=True)
    await shake_in_time(TlsConnection(pair[0], naked, server_side=False), server)
    with pytest.raises(LeafError, match="presented no certificate"):
        judge_peer(server, home=mesh.trust_domain, now=datetime.now(UTC))


@pytest.mark.parametrize("side", ["server", "client"])
def test_both_contexts_are_tls_13_and_demand_a_certificate(web: Contexts, side: str) -> None:
    context = web.server() if side == "server" else web.client()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname
    (root,) = context.get_ca_certs()  # ours alone: no system store behind it
    assert "mesh" in str(root["subject"])


async def test_an_older_tls_is_refused(web: Contexts, api: Contexts, pair: tuple[socket.socket, socket.socket]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client = TlsConnection(pair[0], old, server_side=False)
    client.outgoing.write(b"")
    with pytest.raises(ssl.SSLWantReadError):
        client.session.do_handshake()
    pair[0].send(client.outgoing.read())
    with pytest.raises(HandshakeError) as caught:
        await shake(TlsConnection(pair[1], api.server(), server_side=True))
    assert caught.value.fault is HandshakeFault.PROTOCOL_VERSION


async def test_a_session_is_never_resumed(web: Contexts, api: Contexts) -> None:
    """A resumed session would skip OpenSSL's look at a certificate that has expired meanwhile."""
    session: ssl.SSLSession | None = None
    for _ in range(2):
        near, far = socket.socketpair()
        with near, far:
            for sock in (near, far):
                sock.setblocking(False)
            client = TlsConnection(near, web.client(), server_side=False)
            if session is not None:
                client.session.session = session
            server = TlsConnection(far, api.server(), server_side=True)
            await shake_in_time(client, server)
            assert not client.session.session_reused
            assert not server.session.session_reused
            server.session.write(b"x")  # a ticket would come before it
            far.send(server.outgoing.read())
            client.incoming.write(await receive(near, 65536))
            assert client.session.read(10) == b"x"
            session = client.session.session
            assert session is None or not session.has_ticket


def test_clients_are_made_once_per_alpn(web: Contexts) -> None:
    plain, h2 = web.client(), web.client(("h2",))
    assert plain is not h2
    assert web.client() is plain
    assert web.client(("h2",)) is h2


@pytest.mark.parametrize(("offered", "chosen"), [((), None), (("h2",), "h2"), (("http/1.1", "h2"), "h2")])
async def test_alpn_is_offered_as_told(
    web: Contexts,
    mesh: MeshCa,
    pair: tuple[socket.socket, socket.socket],
    offered: tuple[str, ...],
    chosen: str | None,
) -> None:
    other = contexts_of(mesh.issue("/api")).server()
    other.set_alpn_protocols(["h2"])
    server = TlsConnection(pair[1], other, server_side=True)
    await shake_in_time(TlsConnection(pair[0], web.client(offered), server_side=False), server)
    assert server.session.selected_alpn_protocol() == chosen


def test_no_key_shows_in_any_repr(web: Contexts) -> None:
    web.client()
    assert "PRIVATE" not in repr(web)
    assert "spiffe://mesh.test/web" in repr(web)


def test_without_memory_files_a_private_temporary_one_does(
    mesh: MeshCa, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On macOS: mode 0600, and gone afterwards."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert contexts_of(mesh.issue("/web")).server().cert_store_stats()["x509_ca"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_key_never_stays_readable_on_disk(mesh: MeshCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with _as_file(b"key") as name:
        assert Path(name).stat().st_mode & 0o777 == 0o600
