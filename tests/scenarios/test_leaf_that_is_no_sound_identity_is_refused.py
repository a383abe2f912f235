"""Our own CA's signature is not enough: a leaf must be an X509-SVID of our trust domain, on both sides of a connection.

OpenSSL accepts each of these chains; the leaf is judged after the handshake and before the first forwarded byte.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.factory import Identity, MeshCa
from tests.scenarios.actors import Ended, Service, client_context, echo, exchange, tls_dial, underneath
from tests.scenarios.programs import Program, free_port, require
from tests.scenarios.stage import Sidecar, inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

WEB = "spiffe://mesh.test/web"


Forgery = Callable[[MeshCa, Path], Identity]

# By the word that the log and the metric have for it.
UNSOUND: dict[str, Forgery] = {
    "several_uris": lambda ca, into: ca.forge(into=into, uris=[WEB, "spiffe://mesh.test/admin"]),
    "no_uri": lambda ca, into: ca.forge(into=into, uris=[], dns=("web.test",)),
    "foreign_trust_domain": lambda ca, into: ca.forge(into=into, uris=["spiffe://partner.test/web"]),
    "root_path": lambda ca, into: ca.forge(into=into, uris=["spiffe://mesh.test"]),
    "bad_id": lambda ca, into: ca.forge(into=into, uris=["spiffe://MESH.test/web"]),
    "key_usage": lambda ca, into: ca.forge(into=into, uris=[WEB], with_key_usage=False),
    "extended_key_usage": lambda ca, into: ca.forge(into=into, uris=[WEB], extended_key_usage=None),
}


@pytest.fixture(scope="module")
def services(shared_stage: Stage) -> tuple[Service, Sidecar]:
    service = shared_stage.keep(Service(echo))
    return service, shared_stage.sidecar("api", inbound(forward=service.address))


@pytest.mark.parametrize("fault", UNSOUND)
def test_unsound_caller_is_refused(shared_stage: Stage, services: tuple[Service, Sidecar], fault: str) -> None:
    service, api = services
    before = len(service.visits)

    with tls_dial(
        api.address("api"), client_context(UNSOUND[fault](shared_stage.mesh, shared_stage.workspace / fault))
    ) as caller:
        assert underneath(caller) == (b"", Ended.RESET)

    assert api.log.event("handshake_failed", reason=fault)["listener"] == "api"
    assert api.metric("meshproxy_handshake_failures_total", listener="api", reason=fault) == 1
    assert len(service.visits) == before


def test_certificate_that_is_not_for_clients_is_refused(shared_stage: Stage, services: tuple[Service, Sidecar]) -> None:
    _, api = services
    api.log.turn_page()
    server = shared_stage.mesh.forge(
        into=shared_stage.workspace / "server", uris=[WEB], extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH,)
    )

    with tls_dial(api.address("api"), client_context(server)) as caller:
        underneath(caller)

    assert api.log.event("handshake_failed")["reason"] == "bad_certificate"  # OpenSSL knows this one


def test_unsound_server_is_passed_over(stage: Stage) -> None:
    """s_server stands for any program that was given a certificate with two names."""
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    evil = stage.mesh.forge(into=stage.workspace / "evil", uris=["spiffe://mesh.test/api", WEB])
    port = free_port()
    who = ["-cert", str(evil.chain), "-cert_chain", str(evil.chain), "-key", str(evil.key), "-quiet"]
    arguments = [require("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", *who]
    stage.keep(Program([*arguments], ports=[port], folder=stage.workspace))
    web = stage.sidecar("web", outbound(endpoints=[f"127.0.0.1:{port}", api.address("api")]))

    assert exchange(web.address("to-api"), b"hello") == b"hello"

    failed = web.log.event("upstream_failed")
    assert (failed["phase"], failed["endpoint"]) == ("identity", f"127.0.0.1:{port}")
    assert failed.text("detail").startswith("several_uris: ")
