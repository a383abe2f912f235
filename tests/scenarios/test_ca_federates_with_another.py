"""A CA takes the roots of another trust domain, by file or from its endpoint, follows them, and tells its clients."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ca.issuing import SvidRequest, issue_svid
from ca.profiles import Names
from tests.factory import make_mesh_ca
from tests.scenarios.actors import Service
from tests.scenarios.authority import CaServer, serve, unhurried
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage

ENDPOINT = ("--profile", "https_spiffe", "--endpoint-id", "spiffe://partner.test/meshproxy/ca")


@pytest.fixture
def partner(stage: Stage) -> CaServer:
    """Another trust domain's CA, which changes its mind every ten seconds at most."""
    mesh = make_mesh_ca(stage.workspace / "partner", trust_domain="partner.test")
    with (mesh.directory / "ca.toml").open("a") as file:
        file.write("\n[trust]\nrefresh_hint_seconds = 10\n")
    unhurried(mesh.directory)
    return stage.look_after(CaServer(mesh))


def exported(ca: CaServer, out: Path) -> Path:
    ca.run("bundle", "export", "--format", "spiffe", "--out", out)
    return out


def told(ca: CaServer) -> dict[str, int]:
    """What its clients hear: the number of each federated bundle."""
    federated = ca.client().trust().json["federated"]
    return {name: json.loads(text)["spiffe_sequence"] for name, text in federated.items()}


@pytest.mark.long
def test_followed_through_a_rotation_by_its_spiffe_id(stage: Stage, partner: CaServer) -> None:
    ca = serve(stage)
    first = exported(partner, stage.workspace / "partner.json")
    url = f"https://{partner.listens}/v1/bundle"
    ca.run("bundle", "federate", "set", "partner.test", "--file", first, "--url", url, *ENDPOINT)
    poll(lambda: told(ca) == {"partner.test": 1}, "it is told", within=5)
    partner.run("rotate", "prepare", "--what", "root")
    poll(lambda: told(ca) == {"partner.test": 2}, "the new root is told", within=30)
    ca.log.event("federated_bundle_changed", trust_domain="partner.test")
    (listed,) = json.loads(ca.run("bundle", "federate", "list", "--json"))
    assert (listed["roots"], listed["sequence"], listed["endpoint"]["url"]) == (2, 2, url)
    back = meshproxy("ca", "bundle", "federate", "set", "partner.test", "--file", first, "--dir", ca.directory)
    assert back.returncode == 2
    assert "never goes back" in back.stderr
    ca.run("bundle", "federate", "delete", "partner.test")
    poll(lambda: told(ca) == {}, "it is forgotten", within=5)


@pytest.mark.long
def test_an_endpoint_that_is_somebody_else_is_not_believed(stage: Stage, partner: CaServer) -> None:
    ca = serve(stage)
    first = exported(partner, stage.workspace / "partner.json")
    svid = issue_svid(partner.mesh.authority, SvidRequest(Names(partner.mesh.id("/web"))), now=datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    both = stage.write("both.pem", svid.key_pem.decode() + svid.chain_pem.decode())
    context.load_cert_chain(both)

    def pretend(sock: socket.socket, _visit: Visit) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(4096)

    impostor = stage.keep(Service(pretend))
    ca.run(
        "bundle", "federate", "set", "partner.test", "--file", first, "--url", f"https://{impostor.address}/", *ENDPOINT
    )
    failing = ca.log.event("failing", what="bundle of partner.test", within=30)
    assert "is certified as spiffe://partner.test/web, expected spiffe://partner.test/meshproxy/ca" in failing.text(
        "detail"
    )
    assert told(ca) == {"partner.test": 1}
    ca.run("bundle", "federate", "delete", "partner.test")
    poll(lambda: ca.status_json["failing"] == [], "nothing fails any more", within=15)


@pytest.mark.long
def test_what_is_refused(stage: Stage, partner: CaServer) -> None:
    ca = serve(stage)
    first = exported(partner, stage.workspace / "partner.json")

    def refused(*arguments: str | Path) -> str:
        done = meshproxy("ca", "bundle", "federate", "set", *arguments, "--dir", ca.directory)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    url = f"https://{partner.listens}/v1/bundle"
    assert "own trust domain" in refused("mesh.test", "--file", first)
    assert "expected only roots of other.test" in refused("other.test", "--file", first)
    assert "give it with --file" in refused("partner.test", "--url", url, *ENDPOINT)
    assert "needs --endpoint-id" in refused("partner.test", "--url", url, "--profile", "https_spiffe")
    assert "TLS handshake failed" in refused("partner.test", "--url", url, "--profile", "https_web")
    assert "cannot be read" in refused("partner.test", "--file", "/does/not/exist")
    assert "belong together" in refused("partner.test", "--url", url)
    assert told(ca) == {}
    pem = ca.run("bundle", "show")
    assert pem == (ca.directory / "trust/bundle.pem").read_text()
