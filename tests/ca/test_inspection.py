"""The report on a certificate: everything that is wrong with it, in words, and nothing that is not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding

from ca import TrustDomain
from ca.inspection import Evidence, Finding, Verdict, Weight, inspect_authorities, inspect_identity, is_authority
from ca.svid import read_certificate, read_chain
from tests.factory import Identity, MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


def now() -> datetime:
    return datetime.now(UTC)


def evidence(mesh: MeshCa, identity: Identity) -> Evidence:
    return Evidence(read_chain(identity.chain.read_bytes()), mesh.roots, mesh.trust_domain, key_matches=True)


def wrongs(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.text for finding in findings if finding.weight is Weight.WRONG]


def warnings(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.text for finding in findings if finding.weight is Weight.WARNING]


def test_a_fresh_identity_is_fine_and_says_who_what_and_how_long(mesh: MeshCa) -> None:
    identity = mesh.issue("/web", dns=("web.internal",))
    report = inspect_identity(evidence(mesh, identity), now=now())
    assert report.verdict is Verdict.FINE
    assert report.findings == ()
    assert (report.id, report.dns, report.trusted, report.key_matches) == (
        "spiffe://mesh.test/web",
        ("web.internal",),
        True,
        True,
    )
    assert report.leaf is not None
    assert report.leaf.left == "23 h 59 min left"
    assert report.leaf.key == "P-256"
    assert 0 < report.leaf.used < 0.01
    assert [each.subject.split()[1] for each in report.authorities] == ["intermediate", "root"]
    assert [each.left for each in report.authorities] == ["334 d 23 h left", "9 y 334 d left"]


def test_an_expired_identity_says_when_and_is_still_named(mesh: MeshCa, tmp_path: Path) -> None:
    report = inspect_identity(evidence(mesh, mesh.issue("/web", into=tmp_path / "x", expired=True)), now=now())
    assert report.verdict is Verdict.WRONG
    assert report.id == "spiffe://mesh.test/web"
    assert len(report.findings) == 1
    assert "expired at" in report.findings[0].text
    assert report.leaf is not None
    assert report.leaf.left.startswith("expired 2 d")
    assert report.trusted is True  # the signatures are sound all the same


def test_an_identity_of_tomorrow_is_not_yet_valid(mesh: MeshCa, tmp_path: Path) -> None:
    report = inspect_identity(evidence(mesh, mesh.issue("/web", into=tmp_path / "x", not_yet_valid=True)), now=now())
    assert ["valid only from" in text for text in wrongs(report.findings)] == [True]


def test_half_a_life_gone_is_a_warning(mesh: MeshCa, tmp_path: Path) -> None:
    identity = mesh.issue("/web", into=tmp_path / "x", now=now() - timedelta(hours=18))
    report = inspect_identity(evidence(mesh, identity), now=now())
    assert report.verdict is Verdict.WARNED
    assert "75% of its life has passed, renewal is due at half; 5 h 59 min left" in warnings(report.findings)[0]


def test_a_foreign_bundle_a_foreign_key_and_a_foreign_domain_are_all_found_at_once(
    mesh: MeshCa, tmp_path: Path
) -> None:
    foreign = make_mesh_ca(tmp_path)
    shown = replace(
        evidence(mesh, mesh.issue("/web")),
        roots=foreign.roots,
        home=TrustDomain.parse("elsewhere"),
        key_matches=False,
        findings=(Finding(Weight.WRONG, "key.pem has mode 0644"),),
    )
    texts = wrongs(inspect_identity(shown, now=now()).findings)
    for words in ("mode 0644", "expected elsewhere", "not trusted", "belongs to another certificate"):
        assert any(words in text for text in texts), words


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        ({"uris": []}, "no URI SAN"),
        ({"uris": ["spiffe://mesh.test/a", "spiffe://mesh.test/b"]}, "2 URI SANs"),
        ({"with_key_usage": False}, "no keyUsage"),
        ({"extended_key_usage": None}, "no extended key usage"),
    ],
)
def test_an_unsound_leaf_has_no_id_but_a_claim(
    mesh: MeshCa, tmp_path: Path, forged: dict[str, Any], words: str
) -> None:
    report = inspect_identity(evidence(mesh, mesh.forge(into=tmp_path / "x", **forged)), now=now())
    assert report.id is None
    assert report.verdict is Verdict.WRONG
    assert any(words in text for text in wrongs(report.findings))


def test_without_a_bundle_trust_is_not_judged(mesh: MeshCa) -> None:
    report = inspect_identity(replace(evidence(mesh, mesh.issue("/web")), roots=None), now=now())
    assert (report.trusted, report.verdict) == (None, Verdict.FINE)
    assert len(report.authorities) == 1


def test_a_leaf_that_outlives_its_ca_and_a_ca_about_to_end_are_warnings(mesh: MeshCa, tmp_path: Path) -> None:
    soon = mesh.authority.intermediate.not_valid_after_utc - DAY
    identity = mesh.forge(into=tmp_path / "x", not_before=soon - timedelta(hours=1), not_after=soon + 3 * DAY)
    texts = warnings(inspect_identity(evidence(mesh, identity), now=soon).findings)
    assert any("it outlives the intermediate CA 'CN=mesh intermediate" in text for text in texts)
    assert any("expires in 1 d; replace the CA in time" in text for text in texts)


def test_a_leaf_that_only_this_mesh_would_take_is_warned_about() -> None:
    """trustme: RSA or P-256, subject set; no URI at all is wrong, the rest is readable."""
    leaf = trustme.CA().issue_cert("web.test")
    report = inspect_identity(Evidence(read_chain(leaf.cert_chain_pems[0].bytes())), now=now())
    assert report.verdict is Verdict.WRONG
    assert report.dns == ("web.test",)
    assert report.leaf is not None
    assert report.leaf.subject


def test_a_ca_is_known_as_one_and_reported_with_its_domain(mesh: MeshCa, tmp_path: Path) -> None:
    pair = (mesh.authority.intermediate, mesh.authority.root)
    assert all(map(is_authority, pair))
    assert not is_authority(mesh.issue("/web").certificate)
    report = inspect_authorities(pair, now=now())
    assert (report.id, report.leaf, report.verdict) == ("spiffe://mesh.test", None, Verdict.FINE)
    late = inspect_authorities(pair, now=now() + 340 * DAY)
    assert any("expired at" in text for text in wrongs(late.findings))
    partner = make_mesh_ca(tmp_path, trust_domain="partner.test").authority
    mixed = inspect_authorities((mesh.authority.root, partner.root), now=now())
    assert any("several trust domains" in text for text in wrongs(mixed.findings))
    unsigned = inspect_authorities((partner.intermediate, mesh.authority.root), now=now())
    assert any("nothing in chain or bundle" in text for text in wrongs(unsigned.findings))


def test_flipped_bits_give_a_report_or_are_unreadable_but_nothing_else(mesh: MeshCa) -> None:
    identity = mesh.issue("/web")
    der, signed = identity.der, identity.certificate.tbs_certificate_bytes
    signed_part = range(der.index(signed), der.index(signed) + len(signed))
    for position in range(len(der)):
        flipped = bytearray(der)
        flipped[position] ^= 0x04
        with suppress(ValueError):
            certificate = read_certificate(bytes(flipped))
            chain = (certificate, mesh.authority.intermediate)
            report = inspect_identity(Evidence(chain, mesh.roots, mesh.trust_domain), now=now())
            # Outside, the encoding of the signature is not itself signed: the count of unused bits of its BIT STRING
            # may change and it still verifies, so nothing may ever be denied by fingerprint alone.
            assert report.verdict is Verdict.WRONG or position not in signed_part


def test_the_der_of_the_report_is_the_der_of_the_certificate(mesh: MeshCa) -> None:
    certificate = mesh.issue("/web").certificate
    assert read_certificate(certificate.public_bytes(Encoding.DER)) == certificate
