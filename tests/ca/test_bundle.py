"""Bundles: roots of one trust domain, and nothing that is not a root."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import TrustDomain, keys
from ca.bundle import BundleError, is_root, read_bundle
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

HOME = TrustDomain.parse("mesh.test")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def root_with_uri(uri: str) -> x509.Certificate:
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "some root")])
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(key, hashes.SHA256())
    )


def test_the_cas_own_bundle_is_its_root(mesh: MeshCa) -> None:
    assert read_bundle((mesh.directory / "trust/bundle.pem").read_bytes(), home=HOME) == mesh.roots


def test_several_roots_keep_their_order_and_each_comes_once(mesh: MeshCa, tmp_path: Path) -> None:
    second = make_mesh_ca(tmp_path).authority.root
    first = mesh.authority.root
    assert read_bundle(pem(first, second, first), home=HOME) == (first, second)


def test_what_is_no_root_is_left_out(mesh: MeshCa) -> None:
    leaf = mesh.issue("/web").certificate
    assert read_bundle(pem(mesh.authority.intermediate, leaf, mesh.authority.root), home=HOME) == mesh.roots


def test_a_corporate_root_without_any_uri_is_a_root() -> None:
    corporate = trustme.CA().cert_pem.bytes()
    assert len(read_bundle(corporate, home=HOME)) == 1
    assert len(read_bundle(pem(root_with_uri("https://pki.example/")), home=HOME)) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_bundle_without_a_readable_certificate(content: bytes) -> None:
    with pytest.raises(BundleError, match="certificate"):
        read_bundle(content, home=HOME)


def test_a_bundle_of_intermediates_or_leaves_has_no_root(mesh: MeshCa) -> None:
    with pytest.raises(BundleError, match="no root: the only certificate is not a self-signed CA"):
        read_bundle(pem(mesh.authority.intermediate), home=HOME)
    with pytest.raises(BundleError, match="no root: none of the 2 certificates"):
        read_bundle(mesh.issue("/web").chain.read_bytes(), home=HOME)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("spiffe://partner.test", "trust domain partner.test, expected only roots of mesh.test"),
        ("spiffe://mesh.test/web", "claims the identity spiffe://mesh.test/web"),
        ("spiffe://Mesh.test", "unusable identity"),
    ],
)
def test_a_root_that_speaks_for_anything_else_spoils_the_bundle(mesh: MeshCa, uri: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        read_bundle(pem(mesh.authority.root, root_with_uri(uri)), home=HOME)


def test_a_name_that_equals_its_issuer_is_not_yet_a_self_signature(mesh: MeshCa) -> None:
    """Same subject and issuer, signed by somebody else's key: no root."""
    key, name = keys.generate(), mesh.authority.root.subject
    forged = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(mesh.authority.key, hashes.SHA256())
    )
    assert not is_root(forged)
