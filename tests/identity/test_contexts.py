"""What a handshake may be: TLS 1.3, both sides certified, never resumed, judged as an identity afterwards."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from ca import keys, profiles
from ca.lifetime import Validity
from ca.svid import LeafError, LeafFault
from meshproxy.identity.contexts import Contexts, as_file
from meshproxy.identity.federation import Anchors
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
    assert judge_peer(client, anchors=Anchors(mesh.trust_domain), now=now).leaf.id == mesh.id("/api")
    assert judge_peer(server, anchors=Anchors(mesh.trust_domain), now=now).leaf.id == mesh.id("/web")
    with pytest.raises(LeafError, match="expired"):
        judge_peer(server, anchors=Anchors(mesh.trust_domain), now=now + timedelta(days=30))


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
        judge_peer(server, anchors=Anchors(mesh.trust_domain), now=datetime.now(UTC))
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
        judge_peer(server, anchors=Anchors(mesh.trust_domain), now=datetime.now(UTC))


@pytest.mark.parametrize("side", ["server", "client"])
def test_both_contexts_are_tls_13_and_demand_a_certificate(web: Contexts, side: str) -> None:
    context = web.server() if side == "server" else web.client()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname
    root, intermediate = context.get_ca_certs()  # ours alone: no system store behind them
    assert "mesh root" in str(root["subject"])
    assert "mesh intermediate" in str(intermediate["subject"])


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


async def fault_between(client: ssl.SSLContext, server: ssl.SSLContext) -> HandshakeFault | None:
    """What the server has against the client."""
    near, far = socket.socketpair()
    with near, far, trio.fail_after(5):
        for sock in (near, far):
            sock.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, TlsConnection(near, client, server_side=False))
            try:
                await shake(TlsConnection(far, server, server_side=True))
            except HandshakeError as error:
                nursery.cancel_scope.cancel()
                return error.fault
    return None


def bare_client(identity: Identity) -> ssl.SSLContext:
    """A client that shows `identity` and trusts everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(identity.chain, identity.key)
    return context


async def test_peers_of_another_intermediate_are_followed_up_to_the_root(
    api: Contexts, mesh: MeshCa, tmp_path: Path
) -> None:
    """Ours stands in for the root; theirs must still lead there."""
    key = keys.generate()
    root_key = keys.from_pem(
        (mesh.directory / "authorities" / mesh.authority.slot / "root.key").read_bytes(), passphrase=None
    )
    now = datetime.now(UTC)
    validity = Validity(now - timedelta(hours=1), now + timedelta(days=1))
    below = {}
    for name, signer in (("second", root_key), ("impostor", keys.generate())):
        authority = profiles.intermediate(
            name, mesh.trust_domain, key.public_key(), issuer=mesh.roots[0], serial=7, validity=validity
        ).sign(signer, hashes.SHA256())
        other = replace(mesh, authority=replace(mesh.authority, intermediate=authority, key=key))
        below[name] = bare_client(other.forge(into=tmp_path / name))
    assert await fault_between(below["second"], api.server()) is None
    assert await fault_between(below["impostor"], api.server()) is HandshakeFault.BAD_CERTIFICATE


async def test_a_foreign_intermediate_of_the_same_names_does_not_pass_for_ours(api: Contexts, tmp_path: Path) -> None:
    foreign = make_mesh_ca(tmp_path)
    assert await fault_between(bare_client(foreign.issue("/web")), api.server()) is HandshakeFault.UNKNOWN_CA


async def test_an_intermediate_that_has_expired_stands_in_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was found when the contexts were made: OpenSSL looks at the time of the anchor as well."""
    old = make_mesh_ca(tmp_path, made=datetime.now(UTC) - timedelta(days=100), intermediate_ttl=timedelta(days=50))
    caller = bare_client(old.forge(into=tmp_path / "caller"))
    identity = old.forge(into=tmp_path / "ours", not_before=datetime.now(UTC) - timedelta(days=80))
    ours = contexts_of(identity)
    assert len(ours.server().get_ca_certs()) == 1  # its own chain is refused, so nothing stands in
    assert await fault_between(caller, ours.server()) is HandshakeFault.EXPIRED
    monkeypatch.setattr("meshproxy.identity.contexts._accept_each_other", lambda *_: True)
    ours = contexts_of(identity)
    assert len(ours.server().get_ca_certs()) == 2
    assert await fault_between(caller, ours.server()) is HandshakeFault.EXPIRED


async def test_an_authority_below_the_intermediate_is_no_authority(api: Contexts, mesh: MeshCa, tmp_path: Path) -> None:
    below = mesh.forge(into=tmp_path / "below", is_ca=True, cert_sign=True)
    key = keys.from_pem(below.key.read_bytes(), passphrase=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    deeper = replace(mesh, authority=replace(mesh.authority, intermediate=below.certificate, key=key))
    forged = deeper.forge(into=tmp_path / "deeper")
    forged.chain.write_bytes(forged.chain.read_bytes() + below.chain.read_bytes())
    assert await fault_between(bare_client(forged), api.server()) is HandshakeFault.BAD_CERTIFICATE


def test_clients_are_made_once_per_alpn(web: Contexts) -> None:
    plain, h2 = web.client(), web.client(("h2",))
    assert plain is not h2
    assert web.client() is plain
    assert web.client(("h2",)) is h2
    old = web.client(takes_tls_1_2=True)
    assert web.client(takes_tls_1_2=True) is old
    assert (plain.minimum_version, old.minimum_version) == (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
    assert old.options & ssl.OP_NO_TICKET
    assert old.options & ssl.OP_NO_RENEGOTIATION
    legacy = [each["name"] for each in old.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert legacy
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA" in name) for name in legacy)


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
    assert contexts_of(mesh.issue("/web")).server().cert_store_stats()["x509_ca"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_key_never_stays_readable_on_disk(mesh: MeshCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with as_file(b"key") as name:
        assert Path(name).stat().st_mode & 0o777 == 0o600
