"""What certificates say, and that real OpenSSL, strictly, agrees they are sound."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from ca import SpiffeId, TrustDomain
from ca.issuing import SvidRequest, issue_svid
from ca.profiles import Names, ca_name_fault
from tests.factory import MADE_AGO, MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

WEB = SpiffeId.parse("spiffe://mesh.test/web")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def leaf(mesh: MeshCa) -> x509.Certificate:
    names = Names(WEB, dns=("web.internal",), ips=(ip_address("10.0.0.7"), ip_address("::1")))
    made = mesh.authority.intermediate.not_valid_before_utc + MADE_AGO
    return issue_svid(mesh.authority, SvidRequest(names), now=made).certificate


def extensions(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, tuple[bool, x509.ExtensionType]]:
    return {each.oid: (each.critical, each.value) for each in certificate.extensions}


def test_a_leaf_says_exactly_what_an_svid_says(mesh: MeshCa, leaf: x509.Certificate) -> None:
    found = extensions(leaf)
    issuer_key_id = mesh.authority.intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert list(leaf.subject) == []
    assert found.pop(ExtensionOID.BASIC_CONSTRAINTS) == (True, x509.BasicConstraints(ca=False, path_length=None))
    critical, usage = found.pop(ExtensionOID.KEY_USAGE)
    assert critical
    assert isinstance(usage, x509.KeyUsage)
    assert usage.digital_signature
    assert not any((usage.key_encipherment, usage.key_agreement, usage.key_cert_sign, usage.crl_sign))
    assert found.pop(ExtensionOID.EXTENDED_KEY_USAGE) == (
        False,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    )
    assert found.pop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME) == (
        True,  # because the subject is empty (RFC 5280 4.1.2.6)
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("spiffe://mesh.test/web"),
                x509.DNSName("web.internal"),
                x509.IPAddress(ip_address("10.0.0.7")),
                x509.IPAddress(ip_address("::1")),
            ]
        ),
    )
    assert found.pop(ExtensionOID.SUBJECT_KEY_IDENTIFIER)[0] is False
    assert found.pop(ExtensionOID.AUTHORITY_KEY_IDENTIFIER) == (
        False,
        x509.AuthorityKeyIdentifier(issuer_key_id.digest, None, None),  # key id only
    )
    assert found == {}


@pytest.mark.parametrize(("which", "path_length"), [("root", 1), ("intermediate", 0)])
def test_a_ca_says_exactly_what_a_signing_certificate_says(mesh: MeshCa, which: str, path_length: int) -> None:
    certificate = getattr(mesh.authority, which)
    found = extensions(certificate)
    assert found.pop(ExtensionOID.BASIC_CONSTRAINTS) == (True, x509.BasicConstraints(ca=True, path_length=path_length))
    critical, usage = found.pop(ExtensionOID.KEY_USAGE)
    assert critical
    assert isinstance(usage, x509.KeyUsage)
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert found.pop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME) == (
        False,
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mesh.test")]),
    )
    assert set(found) == {ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
    key_id = extensions(certificate)[ExtensionOID.SUBJECT_KEY_IDENTIFIER][1]
    assert isinstance(key_id, x509.SubjectKeyIdentifier)
    assert certificate.subject.rfc4514_string() == f"CN=mesh {which} {key_id.digest.hex()[:8]}"


def test_every_key_is_p256_every_signature_sha256_every_serial_large_and_new(
    mesh: MeshCa, leaf: x509.Certificate
) -> None:
    certificates = (mesh.authority.root, mesh.authority.intermediate, leaf)
    for each in certificates:
        key = each.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert each.signature_hash_algorithm is not None
        assert each.signature_hash_algorithm.name == "sha256"
        assert each.serial_number.bit_length() > 64  # CA/B baseline 7.1: at least 64 bits of randomness
        assert each.version is x509.Version.v3
    assert len({each.serial_number for each in certificates}) == 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_it_under_strict_rules(
    mesh: MeshCa, leaf: x509.Certificate, tmp_path: Path, purpose: str
) -> None:
    (tmp_path / "root.pem").write_bytes(mesh.authority.bundle_pem)
    (tmp_path / "int.pem").write_bytes(mesh.authority.intermediate.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    verify = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose, "-CAfile", "root.pem"]
    result = subprocess.run(
        [*verify, "-untrusted", "int.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == ("leaf.pem: OK\n", "")
    without = subprocess.run([*verify, "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode != 0  # the test can fail: without its intermediate it does


@pytest.mark.parametrize("name", ["a", "web.internal", "xn--nxasmq6b.example", "a-b.c", "x" * 63 + ".test", "1a.2b"])
def test_dns_names_worth_certifying(name: str) -> None:
    assert Names(WEB, dns=(name,)).dns == (name,)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "Web.internal",
            "*.internal",
            "web..internal",
            ".web",
            "web.",
            "-web",
            "web-",
            "we_b",
            "web\n",
            "10.0.0.7",
        ),
        *("x" * 64, ".".join(["x" * 63] * 4), "wéb", "web internal", "123"),
    ],
)
def test_dns_names_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a DNS name to certify"):
        Names(WEB, dns=(name,))


def test_the_trust_domains_own_id_is_nobodys_leaf() -> None:
    with pytest.raises(ValueError, match="names the trust domain itself; a service needs a path"):
        Names(SpiffeId.of(TrustDomain.parse("mesh.test"), ""))


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        *(("mesh", True), ("Mesh CA 2", True), ("x" * 40, True), ("x" * 41, False), ("", False), (" mesh", False)),
        *(("mesh,CN=evil", False), ("mesh\n", False), ("méh", False)),
    ],
)
def test_names_a_ca_may_have(name: str, fine: bool) -> None:  # noqa: FBT001 - a table's column
    assert (ca_name_fault(name) is None) == fine
