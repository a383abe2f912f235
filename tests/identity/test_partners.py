"""Federation in live handshakes, judged on both sides: a root speaks for its own trust domain and for no other."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from ca import SpiffeId
from ca.deny_list import RetiredIssuer
from ca.events import By
from ca.svid import LeafError, LeafFault
from meshproxy.identity.own import Identity as Own
from meshproxy.identity.own import load
from meshproxy.identity.peer import Peer, judge_peer, objection_to
from meshproxy.identity.trust import Trusted
from meshproxy.settings.schema import IdentitySettings
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.shaking import shake
from tests.trusting import HOUR, bundle_of, by_id, by_key, by_serial, now, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


Sockets = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")


@pytest.fixture
def pair() -> Iterator[Sockets]:
    with ExitStack() as stack:
        near, far = socket.socketpair()
        for sock in (near, far):
            stack.enter_context(sock)
            sock.setblocking(False)
        yield near, far


@dataclass(frozen=True, slots=True)
class Side:
    """One service: its identity as its sidecar has loaded it, and what is trusted beside it."""

    own: Own
    trusted: Trusted

    @classmethod
    def of(cls, identity: Identity) -> Side:
        found = load(IdentitySettings(identity.directory), before=Trusted(), now=datetime.now(UTC))
        assert found.faults == ()
        return cls(found.identity, found.trusted)

    def judges(self, tls: TlsConnection) -> Peer:
        return judge_peer(tls, anchors=self.own.anchors, now=datetime.now(UTC))


def federated(mesh: MeshCa, identity: Identity, *others: MeshCa) -> Identity:
    say(identity.directory, mesh, federated={each.trust_domain.name: bundle_of(each) for each in others})
    return identity


async def meet(client: Side, server: Side, pair: Sockets) -> tuple[TlsConnection, TlsConnection]:
    one = TlsConnection(pair[0], client.own.contexts.client(), server_side=False)
    other = TlsConnection(pair[1], server.own.contexts.server(), server_side=True)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, one)
            nursery.start_soon(shake, other)
    return one, other


async def test_partners_know_each_other_by_their_full_names(
    mesh: MeshCa, partner: MeshCa, tmp_path: Path, pair: Sockets
) -> None:
    web = Side.of(federated(mesh, mesh.issue("/web", into=tmp_path / "web"), partner))
    shop = Side.of(federated(partner, partner.issue("/shop", into=tmp_path / "shop"), mesh))
    to_shop, to_web = await meet(web, shop, pair)
    assert web.judges(to_shop).leaf.id == SpiffeId.parse("spiffe://partner.test/shop")
    assert shop.judges(to_web).leaf.id == SpiffeId.parse("spiffe://mesh.test/web")


async def test_federation_changes_nothing_among_ourselves(
    mesh: MeshCa, partner: MeshCa, tmp_path: Path, pair: Sockets
) -> None:
    """The anchor is our intermediate, which stands in for the root."""
    web = Side.of(federated(mesh, mesh.issue("/web", into=tmp_path / "web"), partner))
    api = Side.of(federated(mesh, mesh.issue("/api", into=tmp_path / "api"), partner))
    to_api, to_web = await meet(web, api, pair)
    assert web.judges(to_api).leaf.id == mesh.id("/api")
    assert api.judges(to_web).leaf.id == mesh.id("/web")


@pytest.mark.parametrize("forger_is_client", [True, False], ids=["as a client", "as a server"])
@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        (True, "spiffe://mesh.test/web"),  # the partner's root signed one of our names
        (True, "spiffe://third.test/x"),  # or of somebody's
        (False, "spiffe://partner.test/shop"),  # our root signed one of theirs
        (False, "spiffe://third.test/x"),
    ],
)
async def test_a_root_has_no_say_in_another_trust_domain(
    mesh: MeshCa, partner: MeshCa, tmp_path: Path, pair: Sockets, *, theirs: bool, name: str, forger_is_client: bool
) -> None:
    """OpenSSL is content with each of these chains."""
    signer = partner if theirs else mesh
    forged = signer.forge(into=tmp_path / "forged", uris=[name])
    # Whoever forges believes everybody: its own identity would not load.
    believing = Side.of(federated(signer, signer.issue("/any", into=tmp_path / "any"), mesh if theirs else partner))
    for context in (believing.own.contexts.client(), believing.own.contexts.server()):
        context.load_cert_chain(forged.chain, forged.key)
    web = Side.of(federated(mesh, mesh.issue("/web", into=tmp_path / "web"), partner))

    if forger_is_client:
        _, seen = await meet(believing, web, pair)
    else:
        seen, _ = await meet(web, believing, pair)
    with pytest.raises(LeafError) as caught:
        web.judges(seen)
    assert caught.value.fault is LeafFault.FOREIGN_TRUST_DOMAIN
    assert (
        caught.value.detail
        == f"it was signed below a root of {signer.trust_domain}, which has no say in other trust domains"
    )
    assert caught.value.claimed == name


async def test_without_its_bundle_a_partner_is_nobody(
    mesh: MeshCa, partner: MeshCa, tmp_path: Path, pair: Sockets
) -> None:
    web = Side.of(mesh.issue("/web", into=tmp_path / "web"))
    shop = Side.of(federated(partner, partner.issue("/shop", into=tmp_path / "shop"), mesh))
    client = TlsConnection(pair[0], shop.own.contexts.client(), server_side=False)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, client)
            with pytest.raises(HandshakeError) as caught:
                await shake(TlsConnection(pair[1], web.own.contexts.server(), server_side=True))
            nursery.cancel_scope.cancel()
    assert caught.value.fault is HandshakeFault.UNKNOWN_CA


async def test_one_whose_federation_has_ended_is_believed_no_more(
    mesh: MeshCa, partner: MeshCa, tmp_path: Path, pair: Sockets
) -> None:
    web = Side.of(federated(mesh, mesh.issue("/web", into=tmp_path / "web"), partner))
    shop = Side.of(federated(partner, partner.issue("/shop", into=tmp_path / "shop"), mesh))
    to_shop, _ = await meet(web, shop, pair)
    peer = web.judges(to_shop)
    assert objection_to(peer, web.trusted, mesh.trust_domain) is None
    objection = objection_to(peer, Trusted(), mesh.trust_domain)
    assert objection is not None
    assert objection.fault is LeafFault.FOREIGN_TRUST_DOMAIN
    assert "partner.test is not federated with any more" in objection.detail


@pytest.mark.parametrize("kind", list(By))
async def test_a_denied_leaf_is_objected_to_with_everything_one_needs_to_know(
    mesh: MeshCa, tmp_path: Path, pair: Sockets, kind: By
) -> None:
    shop = mesh.issue("/shop", into=tmp_path / "shop")
    made = {By.SERIAL: by_serial(mesh, shop), By.SPKI: by_key(shop), By.ID: by_id(shop)}[kind]
    web_identity = mesh.issue("/web", into=tmp_path / "web")
    say(web_identity.directory, mesh, made, number=7)
    web, other = Side.of(web_identity), Side.of(shop)
    to_shop, to_web = await meet(web, other, pair)
    objection = objection_to(web.judges(to_shop), web.trusted, mesh.trust_domain)
    assert objection is not None
    assert objection.fault is LeafFault.REVOKED
    for word in (
        f"{shop.certificate.serial_number:x} of spiffe://mesh.test/shop",
        f"entry {made.by} {made.subject}",
        "deny-list number 7 of 20",
    ):
        assert word in objection.detail
    assert objection_to(other.judges(to_web), web.trusted, mesh.trust_domain) is None


async def test_the_leaves_of_a_retired_intermediate_are_denied_although_openssl_takes_it_for_an_anchor(
    mesh: MeshCa, tmp_path: Path, pair: Sockets
) -> None:
    """Both sides hold the same intermediate, so to OpenSSL it stands in for the root whatever became of it."""
    identity = mesh.issue("/web", into=tmp_path / "web")
    say(identity.directory, mesh, retired=(RetiredIssuer(mesh.authority.key_id, now() + HOUR),))
    web, api = Side.of(identity), Side.of(mesh.issue("/api", into=tmp_path / "api"))
    to_api, _ = await meet(web, api, pair)
    assert to_api.anchor() == mesh.authority.intermediate.public_bytes(Encoding.DER)
    objection = objection_to(web.judges(to_api), web.trusted, mesh.trust_domain)
    assert objection is not None
    assert "the intermediate that signed it was retired" in objection.detail
