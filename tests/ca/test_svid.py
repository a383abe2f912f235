"""The leaf, judged row by row (X509-SVID sections 2 to 5), and the chain above it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from ca import TrustDomain, keys, profiles
from ca.lifetime import Validity
from ca.svid import LeafError, LeafFault, chain_fault, judge_leaf, read_chain, read_leaf, stand_in, trust_path
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

HOME = TrustDomain.parse("mesh.test")
WEB = "spiffe://mesh.test/web"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


def now() -> datetime:
    return datetime.now(UTC)


def refusal(der: bytes, *, home: TrustDomain = HOME, at: datetime | None = None) -> LeafError:
    with pytest.raises(LeafError) as refused:
        judge_leaf(der, home=home, now=at or now())
    return refused.value


def test_what_the_ca_issues_is_sound(mesh: MeshCa) -> None:
    identity = mesh.issue("/web", dns=("web.internal",))
    leaf = judge_leaf(identity.der, home=HOME, now=now())
    certificate = identity.certificate
    assert leaf.id == identity.id
    assert leaf.serial == certificate.serial_number
    assert leaf.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert (leaf.not_before, leaf.not_after) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert leaf.not_after.tzinfo is UTC


@pytest.mark.parametrize(
    ("forged", "fault", "words"),
    [
        ({"uris": []}, LeafFault.NO_URI, "no URI SAN"),
        ({"uris": [], "dns": ("web.mesh.test",)}, LeafFault.NO_URI, "no URI SAN"),
        ({"uris": [WEB, WEB]}, LeafFault.SEVERAL_URIS, "2 URI SANs"),
        ({"uris": [WEB, "https://example.org"]}, LeafFault.SEVERAL_URIS, "2 URI SANs"),
        ({"uris": ["https://example.org", WEB]}, LeafFault.SEVERAL_URIS, "2 URI SANs"),
        ({"uris": ["https://example.org/web"]}, LeafFault.BAD_ID, "begin with spiffe://"),
        ({"uris": ["spiffe://Mesh.test/web"]}, LeafFault.BAD_ID, "lower case"),
        ({"uris": [WEB + "\n"]}, LeafFault.BAD_ID, "only a-z"),
        ({"uris": [WEB + "\x00"]}, LeafFault.BAD_ID, "only a-z"),
        ({"uris": [WEB + "/"]}, LeafFault.BAD_ID, "trailing /"),
        ({"uris": [""]}, LeafFault.BAD_ID, "begin with spiffe://"),
        ({"uris": ["spiffe://mesh.test/" + "x" * 2048]}, LeafFault.BAD_ID, "2048"),
        ({"uris": ["spiffe://mesh.test"]}, LeafFault.ROOT_PATH, "no path"),
        ({"is_ca": True}, LeafFault.IS_CA, "CA:TRUE"),
        ({"with_key_usage": False}, LeafFault.KEY_USAGE, "no keyUsage"),
        ({"digital_signature": False, "crl_sign": True}, LeafFault.KEY_USAGE, "lacks digitalSignature"),
        ({"cert_sign": True}, LeafFault.KEY_USAGE, "keyCertSign"),
        ({"crl_sign": True}, LeafFault.KEY_USAGE, "cRLSign"),
        ({"extended_key_usage": None}, LeafFault.EXTENDED_KEY_USAGE, "no extended key usage"),
        ({"extended_key_usage": (Eku.CLIENT_AUTH,)}, LeafFault.EXTENDED_KEY_USAGE, "lacks serverAuth"),
        ({"extended_key_usage": (Eku.SERVER_AUTH,)}, LeafFault.EXTENDED_KEY_USAGE, "lacks clientAuth"),
        ({"extended_key_usage": (Eku.ANY_EXTENDED_KEY_USAGE,)}, LeafFault.EXTENDED_KEY_USAGE, "lacks serverAuth"),
        ({"uris": ["spiffe://partner.test/web"]}, LeafFault.FOREIGN_TRUST_DOMAIN, "partner.test, ours is mesh.test"),
    ],
)
def test_an_unsound_leaf_is_refused_for_its_reason(
    mesh: MeshCa, tmp_path: Path, forged: dict[str, Any], fault: LeafFault, words: str
) -> None:
    error = refusal(mesh.forge(into=tmp_path / "id", **forged).der)
    assert error.fault is fault
    assert words in error.detail


@pytest.mark.parametrize(
    "forged",
    [
        {"is_ca": None},  # absent basicConstraints: not a CA (RFC 5280 4.2.1.9)
        {"dns": ("a.test", "b.test")},
        {"extended_key_usage": (Eku.SERVER_AUTH, Eku.CLIENT_AUTH, Eku.CODE_SIGNING)},
        {"uris": ["spiffe://mesh.test/meshproxy/ca"]},  # reserved for issuing, legal to hold
        {"extra": (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),)},
    ],
)
def test_what_the_rules_leave_open_is_accepted(mesh: MeshCa, tmp_path: Path, forged: dict[str, Any]) -> None:
    identity = mesh.forge(into=tmp_path / "id", **forged)
    assert judge_leaf(identity.der, home=HOME, now=now()).id == identity.id


def test_both_ends_of_the_validity_are_inclusive(mesh: MeshCa, tmp_path: Path) -> None:
    identity = mesh.issue("/web", into=tmp_path / "id")
    leaf, second = read_leaf(identity.der), timedelta(seconds=1)
    for moment in (leaf.not_before, leaf.not_after):
        assert judge_leaf(identity.der, home=HOME, now=moment) == leaf
    early, late = refusal(identity.der, at=leaf.not_before - second), refusal(identity.der, at=leaf.not_after + second)
    assert (early.fault, late.fault) == (LeafFault.NOT_YET_VALID, LeafFault.EXPIRED)
    assert f"{leaf.not_after:%Y-%m-%dT%H:%M:%SZ}" in late.detail
    assert early.claimed == late.claimed == str(leaf.id)


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x03\x02\x01\x00", b"not a certificate", b"\xff" * 9000])
def test_bytes_that_are_no_certificate_are_malformed(der: bytes) -> None:
    error = refusal(der)
    assert error.fault is LeafFault.MALFORMED
    assert error.detail.isprintable()


def test_every_truncation_and_many_bit_flips_are_judged_without_another_error(mesh: MeshCa) -> None:
    der = mesh.issue("/web").der
    for length in range(0, len(der), 7):
        assert refusal(der[:length]).fault is LeafFault.MALFORMED
    for position, mask in product(range(len(der)), (0x01, 0x10)):
        flipped = bytearray(der)
        flipped[position] ^= mask
        # Only LeafError may come out; anything else fails the test.
        with suppress(LeafError):
            judge_leaf(bytes(flipped), home=HOME, now=now())


def test_a_hostile_claim_is_bounded_and_kept_as_it_is(mesh: MeshCa, tmp_path: Path) -> None:
    hostile = "spiffe://mesh.test/\n" + "A" * 1000
    error = refusal(mesh.forge(into=tmp_path / "id", uris=[hostile]).der)
    assert error.claimed == hostile[:300]
    assert "\n" not in error.detail


def test_without_a_uri_the_subject_is_what_is_claimed() -> None:
    leaf = trustme.CA().issue_cert("web.mesh.test", common_name="web")
    der = read_chain(leaf.cert_chain_pems[0].bytes())[0].public_bytes(Encoding.DER)
    error = refusal(der)
    assert error.fault is LeafFault.NO_URI
    assert "CN=web" in error.claimed


def test_a_leaf_too_large_to_remember_is_judged_all_the_same(mesh: MeshCa, tmp_path: Path) -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * 9000)
    identity = mesh.forge(into=tmp_path / "id", extra=(padding,))
    assert judge_leaf(identity.der, home=HOME, now=now()).id == identity.id


def test_a_remembered_leaf_still_expires_and_is_still_foreign_elsewhere(mesh: MeshCa) -> None:
    identity = mesh.issue("/web")
    leaf = judge_leaf(identity.der, home=HOME, now=now())
    assert refusal(identity.der, at=leaf.not_after + timedelta(days=1)).fault is LeafFault.EXPIRED
    assert refusal(identity.der, home=TrustDomain.parse("other")).fault is LeafFault.FOREIGN_TRUST_DOMAIN


# --- the chain


def test_the_issued_chain_leads_up_to_the_root(mesh: MeshCa) -> None:
    chain = read_chain(mesh.issue("/web").chain.read_bytes())
    assert chain_fault(chain, mesh.roots, now()) is None
    assert trust_path(chain, mesh.roots) == (*chain, *mesh.roots)


def test_order_repeats_and_needless_certificates_above_the_leaf_do_not_matter(mesh: MeshCa, tmp_path: Path) -> None:
    leaf, intermediate = read_chain(mesh.issue("/web").chain.read_bytes())
    other = make_mesh_ca(tmp_path).authority.intermediate
    for chain in ((leaf, leaf, intermediate), (leaf, other, intermediate), (leaf, *mesh.roots, intermediate)):
        assert chain_fault(chain, mesh.roots, now()) is None


def test_a_foreign_root_with_other_names_is_not_found(mesh: MeshCa, tmp_path: Path) -> None:
    chain = read_chain(mesh.issue("/web").chain.read_bytes())
    fault = chain_fault(chain, make_mesh_ca(tmp_path).roots, now())
    assert fault is not None
    assert "nothing in chain or bundle" in fault


def test_a_foreign_root_with_the_very_same_name_did_not_sign(mesh: MeshCa) -> None:
    chain = read_chain(mesh.issue("/web").chain.read_bytes())
    key, real = keys.generate(), mesh.authority.root
    impostor = (
        x509.CertificateBuilder(real.issuer, real.subject, key.public_key(), 1)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    fault = chain_fault(chain, [impostor], now())
    assert fault is not None
    assert "is not signed by it (a foreign CA?)" in fault


def test_a_chain_without_its_intermediate_or_without_anything(mesh: MeshCa) -> None:
    leaf, _ = read_chain(mesh.issue("/web").chain.read_bytes())
    assert chain_fault((), mesh.roots, now()) == "the chain is empty"
    assert "nothing in chain or bundle" in (chain_fault((leaf,), mesh.roots, now()) or "")
    assert "nothing in chain or bundle" in (chain_fault((leaf, mesh.authority.intermediate), (), now()) or "")


def test_times_of_every_certificate_count(mesh: MeshCa) -> None:
    chain = read_chain(mesh.issue("/web").chain.read_bytes())
    late = chain_fault(chain, mesh.roots, now() + timedelta(days=2))
    assert late is not None
    assert "the leaf" in late
    assert "expired at" in late
    only_cas = (mesh.authority.intermediate,)
    assert "'CN=mesh intermediate" in (chain_fault(only_cas, mesh.roots, now() + timedelta(days=400)) or "")
    assert "valid only from" in (chain_fault(only_cas, mesh.roots, now() - timedelta(days=40)) or "")


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ([], "is not a CA"),
        ([x509.BasicConstraints(ca=False, path_length=None)], "is not a CA"),
        (
            [x509.BasicConstraints(ca=True, path_length=None), profiles.key_usage(digital_signature=True)],
            "may not sign certificates",
        ),
    ],
)
def test_an_issuer_that_is_no_ca_spoils_the_chain(
    mesh: MeshCa, extensions: list[x509.ExtensionType], words: str
) -> None:
    fault = chain_fault(*_below_an_odd_issuer(mesh, extensions, signer_of_odd=mesh.authority.key), now())
    assert fault is not None
    assert words in fault


def test_a_path_length_is_kept(mesh: MeshCa) -> None:
    """The intermediate (pathLen 0) signs another CA, which signs a leaf: OpenSSL refuses, and so do we."""
    odd = [x509.BasicConstraints(ca=True, path_length=None), profiles.key_usage(key_cert_sign=True)]
    chain, _ = _below_an_odd_issuer(mesh, odd, signer_of_odd=mesh.authority.key)
    fault = chain_fault((*chain, mesh.authority.intermediate), mesh.roots, now())
    assert fault is not None
    assert "allows 0 intermediates below it, the chain has 1" in fault


def _below_an_odd_issuer(
    mesh: MeshCa, extensions: list[x509.ExtensionType], *, signer_of_odd: Any
) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
    """A leaf signed by a certificate of the given extensions, itself signed by the mesh's intermediate."""
    key, leaf_key = keys.generate(), keys.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    builder = (
        x509.CertificateBuilder(mesh.authority.intermediate.subject, name, key.public_key(), 1)
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    odd = builder.sign(signer_of_odd, hashes.SHA256())
    leaf = profiles.leaf(
        profiles.Names(mesh.id("/web")),
        leaf_key.public_key(),
        issuer=odd,
        serial=2,
        validity=Validity(now() - timedelta(hours=1), now() + timedelta(hours=1)),
    ).sign(key, hashes.SHA256())
    return (leaf, odd), (mesh.authority.intermediate, *mesh.roots)


def _authority(
    *,
    signer: tuple[keys.SigningKey, x509.Certificate] | None,
    path_length: int | None,
    extra: x509.ExtensionType | None,
) -> tuple[keys.SigningKey, x509.Certificate]:
    """A CA below `signer`, or a root."""
    key = keys.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, profiles.short_key_id(key.public_key()))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[1].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(profiles.key_usage(key_cert_sign=True), critical=True)
    )
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return key, builder.sign(signer[0] if signer else key, hashes.SHA256())


LOCAL_NAMES = x509.NameConstraints(
    permitted_subtrees=[x509.UniformResourceIdentifier("mesh.test")], excluded_subtrees=None
)


@pytest.mark.parametrize(
    ("heights", "constrained", "stands_in"),
    [
        ([None, 0], None, True),
        ([1, 0], None, True),
        ([2, 1, 0], None, True),
        ([None, 0], 1, True),  # the intermediate's own constraints are looked at where it is the anchor
        ([None, 0], 0, False),
        ([None, None, 0], 1, False),
        ([None, None], None, False),  # an authority below it would not be counted by the root's path length
        ([2, 1], None, False),
        ([1], None, False),  # signed by the root itself: nothing to spare
    ],
)
def test_an_intermediate_stands_in_for_a_root_that_says_nothing_more(
    heights: list[int | None],
    constrained: int | None,
    stands_in: bool,  # noqa: FBT001 - a row of the table
) -> None:
    made: list[tuple[keys.SigningKey, x509.Certificate]] = []
    for level, path_length in enumerate(heights):
        extra = LOCAL_NAMES if level == constrained else None
        made.append(_authority(signer=made[-1] if made else None, path_length=path_length, extra=extra))
    leaf = _leaf_below(*made[-1])
    chain = (leaf, *(certificate for _, certificate in reversed(made[1:])))
    assert chain_fault(chain, [made[0][1]], now()) is None
    assert stand_in(chain, [made[0][1]]) == (made[-1][1] if stands_in else None)
    assert stand_in(chain, []) is None


def _leaf_below(key: keys.SigningKey, issuer: x509.Certificate) -> x509.Certificate:
    own = keys.generate()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(hours=1))
        .not_valid_after(now() + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "no certificate"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\xff", "cannot be read"),
    ],
)
def test_a_file_without_a_readable_certificate_says_so(pem: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_chain(pem)


def test_other_blocks_around_the_certificates_are_skipped(mesh: MeshCa) -> None:
    identity = mesh.issue("/web")
    both = identity.key.read_bytes() + identity.chain.read_bytes()
    assert read_chain(both) == read_chain(identity.chain.read_bytes())
