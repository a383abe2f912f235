"""Certificate requests: the key is proven, and nothing else in it counts."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ca import csr, keys
from ca.csr import CsrError
from ca.events import By, Reason, What
from ca.profiles import Names
from ca.rows import AuthorityState, MemoryTables, Revocation, State
from ca.spiffe_id import SpiffeId
from tests.ca.histories import NOW
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

    from ca.keys import SigningKey

NAMES = Names(SpiffeId.parse("spiffe://mesh.test/web"), ("web.internal",), (ip_address("10.0.0.1"),))
P256 = keys.generate()


def request(
    key: SigningKey = P256,
    *names: x509.GeneralName,
    algorithm: hashes.HashAlgorithm | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever")])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    needs_none = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    signed = builder.sign(key, None if needs_none else algorithm or hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "key",
    [
        P256,
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda key: type(key).__name__,
)
def test_the_kinds_of_keys_that_are_certified(key: SigningKey) -> None:
    found = csr.read(request(key))
    assert found.key == key.public_key()
    assert csr.fault(found, NAMES, MemoryTables()) is None


@pytest.mark.parametrize(
    ("key", "algorithm", "words"),
    [
        (ec.generate_private_key(ec.SECP521R1()), None, "kind or size"),
        (ec.generate_private_key(ec.SECP256K1()), None, "kind or size"),
        (ed448.Ed448PrivateKey.generate(), None, "kind or size"),
        (rsa.generate_private_key(65537, 1024), None, "kind or size"),
        (rsa.generate_private_key(65537, 2048), hashes.SHA3_256(), "does not prove"),
    ],
    ids=["P-521", "secp256k1", "Ed448", "RSA 1024", "SHA-3"],
)
def test_other_keys_are_refused(key: SigningKey, algorithm: hashes.HashAlgorithm | None, words: str) -> None:
    with pytest.raises(CsrError, match=words):
        csr.read(request(key, algorithm=algorithm))


def test_who_does_not_hold_the_key_is_refused() -> None:
    der = request()
    other = keys.generate().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    own = P256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert own in der
    with pytest.raises(CsrError, match="does not prove that the sender holds the key"):
        csr.read(der.replace(own, other))


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"nonsense", request()[:-1], request() + b"\x00"])
def test_what_is_no_request_is_refused(der: bytes) -> None:
    with pytest.raises(CsrError, match="cannot be read"):
        csr.read(der)


def test_a_request_of_absurd_size_is_not_even_read() -> None:
    with pytest.raises(CsrError, match="longer than 16 KiB"):
        csr.read(b"\x30" * (16 * 1024 + 1))


URI = x509.UniformResourceIdentifier


@pytest.mark.parametrize(
    ("names", "granted"),
    [
        ((), True),
        ((URI("spiffe://mesh.test/web"),), True),
        ((URI("spiffe://mesh.test/web"), x509.DNSName("web.internal"), x509.IPAddress(ip_address("10.0.0.1"))), True),
        ((x509.DNSName("web.internal"),), True),
        ((URI("spiffe://mesh.test/admin"),), False),
        ((URI("spiffe://mesh.test/web"), URI("spiffe://mesh.test/admin")), False),
        ((URI("spiffe://mesh.test/web\n"),), False),
        ((x509.DNSName("admin.internal"),), False),
        ((x509.IPAddress(ip_address("10.0.0.2")),), False),
        ((x509.RFC822Name("root@mesh.test"),), False),
    ],
)
def test_names_that_were_not_granted_are_refused_and_not_dropped(
    names: tuple[x509.GeneralName, ...], *, granted: bool
) -> None:
    fault = csr.fault(csr.read(request(P256, *names)), NAMES, MemoryTables())
    assert (fault is None) is granted
    if fault:
        assert "which is not what is granted here: spiffe://mesh.test/web" in fault


def test_extensions_count_for_nothing() -> None:
    found = csr.read(request(P256, extensions=(x509.BasicConstraints(ca=True, path_length=None),)))
    assert found.names == ()
    assert csr.fault(found, NAMES, MemoryTables()) is None


def test_a_revoked_key_and_a_cas_own_are_refused(tmp_path: Path) -> None:
    rows = MemoryTables()
    found = csr.read(request())
    rows.put(
        Revocation(
            by=By.SPKI, issuer="", subject=found.spki, cutoff=None, until=NOW, at=NOW, reason=Reason.KEY_COMPROMISE
        )
    )
    assert csr.fault(found, NAMES, rows) == "its key was revoked; make a new one"
    mesh = make_mesh_ca(tmp_path)
    rows = MemoryTables()
    rows.put(
        AuthorityState(
            what=What.INTERMEDIATE,
            slot="0001-x",
            key_id="aa",
            root_key_id="bb",
            certificate=mesh.authority.intermediate.public_bytes(Encoding.DER),
            state=State.RETIRED,
        )
    )
    assert csr.fault(csr.read(request(mesh.authority.key)), NAMES, rows) == "its key is a CA's own"
