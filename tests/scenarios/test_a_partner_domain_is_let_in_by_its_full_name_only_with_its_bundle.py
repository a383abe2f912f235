"""Another trust domain is believed about its own names, where its bundle was brought and an allow-list names it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.factory import MeshCa, make_mesh_ca
from tests.scenarios.actors import (
    Ended,
    Service,
    client_context,
    dial,
    echo,
    exchange,
    read_to_end,
    tls_dial,
    underneath,
)
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import PATIENCE, Stage, inbound, outbound, poll
from tests.scenarios.trusting import bring, run_ca

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.stage import Sidecar

SHOP = "spiffe://partner.test/shop"
FULL = f'[[allow]]\nname = "partners-shop"\nfrom = "{SHOP}"\n'
SHORT = '[[allow]]\nname = "own"\nfrom = ["/shop", "/**"]\n'


@pytest.fixture
def mesh(tmp_path: Path) -> MeshCa:
    return make_mesh_ca(tmp_path / "mesh")


@pytest.fixture
def partner(tmp_path: Path) -> MeshCa:
    made = make_mesh_ca(tmp_path / "partner", trust_domain="partner.test")
    run_ca(made, "publish")
    return made


@pytest.fixture
def shop(partner: MeshCa, stage: Stage) -> Identity:
    return partner.issue("/shop", into=stage.workspace / "shop")


def until_federated(sidecar: Sidecar, domains: int) -> None:
    poll(lambda: sidecar.metric("meshproxy_federated_trust_domains") == domains, f"{domains} domains")


def federated_api(stage: Stage, partner: MeshCa, allow: str, *, protocol: str = "tcp") -> Sidecar:
    stage.write("web.allow.toml", allow)
    service: Service = Origin() if protocol == "http" else Service(echo)
    file = stage.configure("api", inbound(forward=stage.keep(service).address, protocol=protocol))
    bring(stage.mesh, stage.workspace / "identity-api", federated=(partner,))
    return stage.run(file)


def refused(sidecar: Sidecar, caller: Identity, api: Identity) -> None:
    with tls_dial(sidecar.address("api"), client_context(caller, trusting=api)) as sock:
        assert underneath(sock)[1] in {Ended.RESET, Ended.EOF}


def test_its_full_name_is_granted_and_its_bundle_taken_back_ends_it(
    stage: Stage, partner: MeshCa, shop: Identity
) -> None:
    api = federated_api(stage, partner, FULL)
    own = stage.mesh.issue("/any", into=stage.workspace / "any")
    with tls_dial(api.address("api"), client_context(shop, trusting=own)) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        bring(stage.mesh, stage.workspace / "identity-api")  # federation is over
        assert underneath(caller) == (b"", Ended.RESET)
    line = api.log.connection(end="revoked")
    assert (line.caller, line.rule) == (SHOP, "partners-shop")
    assert "partner.test is not federated with any more" in line.detail
    until_federated(api, 0)
    api.log.turn_page()
    refused(api, shop, own)
    api.log.event("handshake_failed", reason="unknown_ca")


@pytest.mark.long
def test_a_short_name_in_an_allow_list_never_means_a_partner(stage: Stage, partner: MeshCa, shop: Identity) -> None:
    api = federated_api(stage, partner, SHORT)
    refused(api, shop, stage.mesh.issue("/any", into=stage.workspace / "any"))
    assert api.log.connection(decision="deny").caller == SHOP


@pytest.mark.long
def test_the_service_is_told_the_full_name(stage: Stage, partner: MeshCa, shop: Identity) -> None:
    stage.write("web.allow.toml", FULL)
    origin = stage.keep(Origin())
    file = stage.configure("api", inbound(forward=origin.address, protocol="http"))
    bring(stage.mesh, stage.workspace / "identity-api", federated=(partner,))
    api = stage.run(file)
    own = stage.mesh.issue("/any", into=stage.workspace / "any")
    with mtls_caller(api, client_context(shop, trusting=own)) as caller:
        assert caller.ask("GET", "/orders").status == 200
    assert origin.requests[0].value("x-mesh-client-id") == SHOP


def test_without_its_bundle_it_is_refused_whatever_the_allow_list_says(stage: Stage, shop: Identity) -> None:
    stage.write("web.allow.toml", FULL)
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    refused(api, shop, stage.mesh.issue("/any", into=stage.workspace / "any"))
    api.log.event("handshake_failed", reason="unknown_ca")


@pytest.mark.long
@pytest.mark.parametrize("theirs", [True, False], ids=["theirs signs ours", "ours signs theirs"])
def test_a_root_that_signs_a_name_of_the_other_domain_is_refused_by_reason(
    stage: Stage, partner: MeshCa, *, theirs: bool
) -> None:
    api = federated_api(stage, partner, FULL + SHORT)
    signer, name = (partner, "spiffe://mesh.test/shop") if theirs else (stage.mesh, SHOP)
    forged = signer.forge(into=stage.workspace / "forged", uris=[name])
    refused(api, forged, stage.mesh.issue("/any", into=stage.workspace / "any"))
    told = api.log.event("handshake_failed", reason="foreign_trust_domain", claimed=name)
    assert (
        told["detail"]
        == f"it was signed below a root of {signer.trust_domain}, which has no say in other trust domains"
    )
    assert api.log.seen("connection") == []


@pytest.mark.long
def test_calls_go_to_a_partner_by_its_full_name(stage: Stage, partner: MeshCa, shop: Identity) -> None:
    stage.write("shop.allow.toml", '[[allow]]\nname = "meshs-web"\nfrom = "spiffe://mesh.test/web"\n')
    far = stage.configure(
        "shop",
        inbound("shop", forward=stage.keep(Service(echo)).address, policy="shop.allow.toml"),
        identity=shop.directory,
    )
    run_ca(stage.mesh, "publish")
    bring(partner, shop.directory, federated=(stage.mesh,))
    endpoint = stage.run(far).address("shop")
    file = stage.configure("web", outbound(endpoints=[endpoint], to=SHOP))
    bring(stage.mesh, stage.workspace / "identity-web", federated=(partner,))
    web = stage.run(file)
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    assert web.log.connection(end="clean").upstream_id == SHOP
    bring(stage.mesh, stage.workspace / "identity-web")
    until_federated(web, 0)
    with dial(web.address("to-api")) as caller:
        assert read_to_end(caller) == (b"", Ended.RESET)
    assert "unknown_ca" in web.log.event("upstream_failed", phase="handshake").text("detail")


def test_no_call_goes_to_a_partners_name_that_our_own_root_has_signed(stage: Stage, partner: MeshCa) -> None:
    forged = stage.mesh.forge(into=stage.workspace / "forged", uris=[SHOP])
    context = server_context(forged)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        file = stage.configure("web", outbound(endpoints=[f"127.0.0.1:{listener.getsockname()[1]}"], to=SHOP))
        bring(stage.mesh, stage.workspace / "identity-web", federated=(partner,))
        web = stage.run(file)
        with dial(web.address("to-api")) as caller:
            listener.settimeout(PATIENCE)
            with listener.accept()[0] as raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True):
                read_to_end(caller)
    told = web.log.event("upstream_failed", phase="identity")
    assert told["detail"] == (
        "foreign_trust_domain: it was signed below a root of mesh.test, which has no say in other trust domains"
    )


def server_context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.chain, identity.key)
    return context
