"""Private keys: making them, sealing them with a passphrase, opening them again with errors a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from cryptography import x509

# Whose signatures a TLS peer or a CA of ours can make; DH and X25519 keys cannot sign at all.
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_SEALED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")  # PKCS#8, and OpenSSL's older form


class PrivateKeyError(ValueError):
    """A private key that cannot be used; the text is a phrase, and never holds key material or a passphrase."""


def generate() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key, from the operating system's randomness."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: SigningKey, *, passphrase: bytes | None) -> bytes:
    """The key as PKCS#8 PEM, sealed with the best encryption the library has when a passphrase is given."""
    sealing = BestAvailableEncryption(passphrase) if passphrase is not None else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing)


def is_sealed(pem: bytes) -> bool:
    """Whether a PEM text holds a key that needs a passphrase; it is not opened for that."""
    return any(mark in pem for mark in _SEALED)


def from_pem(pem: bytes, *, passphrase: bytes | None) -> SigningKey:
    """Open a PEM private key (PKCS#8, SEC 1 or PKCS#1).

    A passphrase given for a key that is not sealed is ignored. Raises PrivateKeyError when there is no key, when
    it is sealed and no passphrase was given, when the passphrase is wrong, and when it is a kind that cannot sign.
    """
    if b"PRIVATE KEY-----" not in pem:
        raise PrivateKeyError("no private key (no PEM block BEGIN PRIVATE KEY)")
    sealed = is_sealed(pem)
    if sealed and passphrase is None:
        raise PrivateKeyError("a private key sealed with a passphrase, and none was given")
    try:
        key = load_pem_private_key(pem, password=passphrase if sealed else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's words differ by version and format, and a wrong passphrase looks like broken data to it.
        if sealed:
            raise PrivateKeyError("a sealed private key that this passphrase does not open") from None
        raise PrivateKeyError("a private key that cannot be read (damaged, or of an unknown kind)") from None
    if not isinstance(key, SigningKey):
        raise PrivateKeyError("a private key of a kind that cannot sign")
    return key


def matches(key: SigningKey, certificate: x509.Certificate) -> bool:
    """Whether `certificate` certifies the public half of `key`."""
    own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return False  # a key the library cannot even read is not ours
    return own == certified
