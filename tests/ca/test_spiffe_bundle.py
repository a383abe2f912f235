"""Trust bundles as SPIFFE writes them: what a consumer must pass over, and what it must not believe."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca import TrustDomain
from ca.bundle import BundleError
from ca.profiles import key_usage
from ca.spiffe_bundle import SpiffeBundle, read, write
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from ca.keys import SigningKey

HOME = TrustDomain.parse("mesh.test")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


def entry(certificate: x509.Certificate, **changes: object) -> dict[str, object]:
    x5c = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    return {"use": "x509-svid", "kty": "EC", "x5c": x5c} | changes


def document(*keys: object, **more: object) -> bytes:
    return json.dumps({"keys": list(keys)} | more).encode()


def root_of(key: SigningKey) -> x509.Certificate:
    name, now = x509.Name([]), datetime(2026, 11, 22, tzinfo=UTC)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(key_cert_sign=True), critical=True)
        .sign(key, algorithm)
    )


def test_what_is_written_is_read_back(mesh: MeshCa) -> None:
    bundle = SpiffeBundle(mesh.roots, 7, 60)
    assert read(write(bundle), home=HOME) == bundle
    (key,) = json.loads(write(bundle))["keys"]
    assert (key["use"], key["kty"], key["crv"], len(key["x5c"])) == ("x509-svid", "EC", "P-256", 1)
    assert "kid" not in key
    assert base64.b64decode(key["x5c"][0]) == mesh.authority.root.public_bytes(Encoding.DER)
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[name] + "=")) for name in ("x", "y"))
    assert ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key() == mesh.authority.root.public_key()


@pytest.mark.parametrize("kind", ["P-384", "RSA"])
def test_roots_of_other_kinds_are_written(kind: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1()) if kind == "P-384" else rsa.generate_private_key(65537, 2048)
    written = json.loads(write(SpiffeBundle((root_of(key),))))
    assert written["keys"][0]["kty"] == ("RSA" if kind == "RSA" else "EC")
    assert "spiffe_sequence" not in written
    assert read(json.dumps(written).encode(), home=HOME).sequence is None


def test_a_root_without_a_jwk_is_refused() -> None:
    with pytest.raises(BundleError, match="no JWK here"):
        write(SpiffeBundle((root_of(ed25519.Ed25519PrivateKey.generate()),)))


def test_what_is_unknown_is_passed_over(mesh: MeshCa) -> None:
    root, other = mesh.authority.root, make_x5c(mesh.authority.intermediate)
    good = entry(root)
    several = entry(root, x5c=[*make_x5c(root), *other, "nonsense"])
    for keys in (
        [entry(root, use="jwt-svid"), good],
        [entry(root, kty="quantum"), good],
        [{"use": "x509-svid", "kty": "EC"}, good],
        ["text", 1, None, good],
        [several],
        [good, good],
    ):
        assert read(document(*keys, unknown=1), home=HOME).roots == (root,)


def make_x5c(certificate: x509.Certificate) -> list[str]:
    return [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]


def test_no_keys_mean_nobody_is_to_be_believed() -> None:
    assert read(b'{"keys": []}', home=HOME).roots == ()
    assert read(b'{"keys": [], "spiffe_refresh_hint": 99999999}', home=HOME).refresh_hint == 30 * 86400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no SPIFFE bundle"),
        (b"[]", "no array of keys"),
        (b"{}", "no array of keys"),
        (b'{"keys": {}}', "no array of keys"),
        (b'{"keys": [], "keys": []}', "'keys' stands twice"),
        (b'{"keys": [{"use": "x", "use": "y"}]}', "'use' stands twice"),
        (b'{"keys": [], "spiffe_sequence": "1"}', "spiffe_sequence is not a whole number"),
        (b'{"keys": [], "spiffe_sequence": true}', "spiffe_sequence is not a whole number"),
        (b'{"keys": [], "spiffe_sequence": -1}', "spiffe_sequence is not a whole number"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": "AAAA"}]}', "not a list of texts"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": [1]}]}', "not a list of texts"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["!"]}]}', "whose x5c is"),
        (b'{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["AAAA"]}]}', "cannot be read"),
        (b"[" * 100_000, "no SPIFFE bundle"),
    ],
)
def test_what_is_no_bundle_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        read(text, home=HOME)


def test_only_roots_of_the_own_trust_domain_are_taken(mesh: MeshCa, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(BundleError, match="not a self-signed CA"):
        read(document(entry(mesh.authority.intermediate)), home=HOME)
    partner = make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")
    with pytest.raises(BundleError, match=r"a root of trust domain partner.test, expected only roots of mesh.test"):
        read(document(entry(mesh.authority.root), entry(partner.authority.root)), home=HOME)
