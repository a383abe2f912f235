"""Who has no certificate, another CA's, an expired, a revoked or a copied one gets no next one."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ca import keys
from ca.issuance import IssuanceRefused
from tests.scenarios.authority import CaServer, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage

GRACE = '\n[[issue]]\npaths = ["/patient/*"]\nrenew_grace_seconds = 604800\n[[issue]]\npaths = ["/**"]\n'


def with_grace(directory: Path) -> None:
    with (directory / "ca.toml").open("a") as file:
        file.write(GRACE)


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage, configure=with_grace)


def test_who_shows_no_certificate(ca: CaServer) -> None:
    said = ca.client().renew()
    assert (said.status, said.why) == (401, "no_certificate")


def test_who_is_of_another_ca(ca: CaServer, foreign: MeshCa, tmp_path: Path) -> None:
    stranger = ca.holder(foreign.issue("/web", into=tmp_path / "web"))
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        stranger.renew()
    ca.log.event("handshake_failed", reason="unknown_ca")


def test_who_was_certified_behind_the_ledgers_back(ca: CaServer, tmp_path: Path) -> None:
    """By the stolen key of the intermediate, say."""
    forged = ca.holder(ca.mesh.forge(into=tmp_path / "forged", uris=["spiffe://mesh.test/forged"]))
    said = forged.renew()
    assert (said.status, said.why) == (403, "unknown_certificate")
    ca.log.event("alert", why="unknown_certificate", identity="spiffe://mesh.test/forged")


def test_whose_certificate_has_expired(ca: CaServer, tmp_path: Path) -> None:
    late = ca.holder(ca.mesh.issue("/web", into=tmp_path / "late", expired=True))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_EXPIRED"):
        late.renew()
    said = late.renew_expired()
    assert (said.status, said.why) == (403, "expired")
    assert "enrol with a new token" in said.json["title"]


def test_unless_he_is_given_time(ca: CaServer, tmp_path: Path) -> None:
    late = ca.holder(ca.mesh.issue("/patient/web", into=tmp_path / "patient", expired=True))
    fresh = keys.generate()
    old = late.key, late.chain
    assert late.renew_expired(fresh).status == 200
    assert late.renew().status == 200
    late.key, late.chain = old
    assert late.renew_expired().why == "suspect"  # once only: the old one has a successor
    longer = datetime.now(UTC) - timedelta(days=20)
    too_late = ca.holder(ca.mesh.issue("/patient/api", into=tmp_path / "too-late", now=longer))
    assert too_late.renew_expired().why == "expired"


def test_nor_by_a_signature_that_proves_nothing(ca: CaServer, tmp_path: Path) -> None:
    late = ca.holder(ca.mesh.issue("/patient/db", into=tmp_path / "db", expired=True))
    own, late.key = late.key, keys.generate()
    assert late.renew_expired().why == "bad_request"
    late.key = own
    assert late.renew_expired(nonce=bytes(56)).why == "bad_request"
    assert late.renew_expired().status == 200


def test_whose_certificate_was_revoked(ca: CaServer) -> None:
    web = ca.client()
    serial = f"{web.enrol(ca.token('/revoked')).leaf.serial_number:x}"
    ca.run("revoke", serial, "--reason", "keyCompromise")
    said = web.renew()
    assert (said.status, said.why) == (403, "revoked")
    ca.log.event("alert", why="revoked", identity="spiffe://mesh.test/revoked")
    assert web.renew_expired().why == "revoked"


def test_whose_certificate_was_copied(ca: CaServer) -> None:
    web = ca.client()
    web.enrol(ca.token("/copied"))
    thief = ca.client(key=web.key)
    thief.chain = web.chain
    assert web.renew().status == 200
    said = thief.renew()
    assert (said.status, said.why) == (409, "suspect")
    assert web.renew().why == "suspect"  # nobody can tell who is who
    ca.log.event("alert", why="suspect", identity="spiffe://mesh.test/copied")


def test_but_a_lost_answer_is_given_again(ca: CaServer) -> None:
    web = ca.client()
    web.enrol(ca.token("/lost"))
    before, fresh = (web.key, web.chain), keys.generate()
    first = web.renew(fresh)
    web.key, web.chain = before
    again = web.renew(fresh)
    assert (again.leaf, again.json["again"]) == (first.leaf, True)


def test_the_ca_itself_is_not_to_be_had(ca: CaServer) -> None:
    with pytest.raises(IssuanceRefused, match="reserved"):
        ca.token("/meshproxy/ca")
