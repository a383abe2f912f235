"""Whose roots speak for which trust domain: each for its own, none for ours, and none that two claim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import TrustDomain, keys, spiffe_bundle
from ca.spiffe_bundle import SpiffeBundle
from meshproxy.identity.federation import MOST_DOMAINS, Anchors, Federation, read_federation
from tests.factory import MeshCa, make_mesh_ca
from tests.trusting import bundle_of

HOME = TrustDomain("mesh.test")
PARTNER = TrustDomain("partner.test")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")


def read(mesh: MeshCa, bundles: dict[str, str], before: Federation | None = None) -> tuple[Federation, tuple[str, ...]]:
    own = (*mesh.roots, mesh.authority.intermediate)
    return read_federation(bundles, home=HOME, own=own, before=before or Federation())


def nameless_root(key: keys.SigningKey) -> x509.Certificate:
    """A root that does not say which trust domain it is of, as a corporate one may."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corporate Root")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )


def bundle(*roots: x509.Certificate) -> str:
    return spiffe_bundle.write(SpiffeBundle(roots)).decode()


def test_a_partners_bundle_is_kept_apart_from_ours(mesh: MeshCa, partner: MeshCa) -> None:
    found, faults = read(mesh, {"partner.test": bundle_of(partner)})
    assert (found.roots, faults) == ({PARTNER: partner.roots}, ())
    assert found.pem == partner.roots[0].public_bytes(Encoding.PEM)
    anchors = Anchors.of(HOME, mesh.roots, found)
    assert anchors.others[partner.roots[0].public_bytes(Encoding.DER)] == PARTNER
    assert anchors.others[mesh.roots[0].public_bytes(Encoding.DER)] == HOME


def test_a_partner_without_roots_is_believed_in_nothing(mesh: MeshCa) -> None:
    """SPIFFE_Trust_Domain_and_Bundle.md 4.2.1; and where nobody has any, nothing need be looked up."""
    found, faults = read(mesh, {"partner.test": '{"keys": []}'})
    assert (found.roots, faults) == ({PARTNER: ()}, ())
    assert Anchors.of(HOME, mesh.roots, found) == Anchors(HOME)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mesh.test", "our own trust domain"),
        ("Partner.test", "no trust domain"),
        ("spiffe://partner.test/x", "no trust domain"),
        ("\x1b[31m", "no trust domain"),
    ],
)
def test_what_is_no_other_trust_domain_is_left_out_and_told(
    mesh: MeshCa, partner: MeshCa, name: str, said: str
) -> None:
    found, [fault] = read(mesh, {name: bundle_of(partner), "partner.test": bundle_of(partner)})
    assert list(found.roots) == [PARTNER]
    assert said in fault
    assert fault.isprintable()


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", '{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["AA=="]}]}']
)
def test_a_faulty_bundle_leaves_its_domain_with_what_it_had(mesh: MeshCa, partner: MeshCa, text: str) -> None:
    had = Federation({PARTNER: partner.roots})
    found, [fault] = read(mesh, {"partner.test": text}, had)
    assert found == had
    assert "the last good one is kept" in fault
    found, [fault] = read(mesh, {"partner.test": text})
    assert found == Federation()


def test_a_bundle_that_is_not_said_any_more_is_gone(mesh: MeshCa, partner: MeshCa) -> None:
    assert read(mesh, {}, Federation({PARTNER: partner.roots})) == (Federation(), ())


def test_a_root_of_another_domain_is_refused_in_a_partners_bundle(mesh: MeshCa) -> None:
    found, [fault] = read(mesh, {"partner.test": bundle_of(mesh)})
    assert found == Federation()
    assert "a root of trust domain mesh.test" in fault


def test_a_key_that_two_domains_claim_speaks_for_neither(mesh: MeshCa) -> None:
    """Also under two certificates: both would end the same chains."""
    key = keys.generate()
    one, other = nameless_root(key), nameless_root(key)
    assert one != other
    bundles = {
        "partner.test": bundle(one),
        "other.test": bundle(other),
        "third.test": bundle(nameless_root(keys.generate())),
    }
    found, faults = read(mesh, bundles)
    assert list(map(str, found.roots)) == ["third.test"]
    assert sorted(fault.rpartition(": ")[2] for fault in faults) == ["other.test is refused", "partner.test is refused"]


def test_a_partner_cannot_claim_a_key_of_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither a root's, nor that of the intermediate that stands in for it."""
    key = keys.generate()
    root = nameless_root(key)
    for own in ((root,), (nameless_root(key),)):
        found, [fault] = read_federation({"partner.test": bundle(root)}, home=HOME, own=own, before=Federation())
        assert found == Federation()
        assert "another trust domain has as well" in fault


def test_too_many_domains_change_nothing(mesh: MeshCa, partner: MeshCa) -> None:
    had = Federation({PARTNER: partner.roots})
    many = {f"d{number}.test": '{"keys": []}' for number in range(MOST_DOMAINS + 1)}
    found, [fault] = read(mesh, many, had)
    assert found is had
    assert "at most 64" in fault


def test_too_many_roots_of_one_domain_are_refused(mesh: MeshCa) -> None:
    found, [fault] = read(mesh, {"partner.test": bundle(*(nameless_root(keys.generate()) for _ in range(17)))})
    assert found == Federation()
    assert "17 roots" in fault
