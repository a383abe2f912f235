"""Certificate requests (PKCS#10, RFC 2986): who asks must hold the key; what he asks for counts for nothing.

Only the public key is taken. Names come from the token or the certificate before; a request that names others is
refused rather than silently answered with something else. Extensions are never copied: mkcert copies them, and whoever
may send a request there may ask for a CA.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.events import By
from ca.rows import AuthorityState, Revocation
from ca.svid import UNREADABLE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from ca.profiles import LeafKey, Names
    from ca.rows import Rows

MOST_BYTES: Final = 16 * 1024
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS: Final = range(2048, 8192 + 1)  # more would cost every handshake of the mesh
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNREADABLE: Final = (*UNREADABLE, InvalidSignature)


class CsrError(ValueError):
    """A request that is not answered; the text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Csr:
    """A request whose sender holds the key. `spki` is the SHA-256 of its SubjectPublicKeyInfo in hex."""

    key: LeafKey
    spki: str
    names: tuple[x509.GeneralName, ...] = ()


def read(der: bytes) -> Csr:
    """Read a request and prove that its sender holds the key (RFC 2986 section 4.2). Raises CsrError.

    The kind and size of the key are looked at first: proving a key of absurd size would be a way to keep us busy.
    """
    if len(der) > MOST_BYTES:
        raise CsrError(f"it is longer than {MOST_BYTES // 1024} KiB")
    try:
        request = x509.load_der_x509_csr(der)
        key = _acceptable(request.public_key())
        algorithm = request.signature_hash_algorithm  # None: one that needs none, as Ed25519
        proven = (algorithm is None or isinstance(algorithm, _HASHES)) and request.is_signature_valid
        names = _names(request)
    except CsrError:
        raise
    except _UNREADABLE as error:
        raise CsrError("it cannot be read, expected a PKCS#10 request as DER") from error
    if not proven:
        raise CsrError("its signature does not prove that the sender holds the key")
    return Csr(key, _spki(key), names)


def fault(request: Csr, names: Names, rows: Rows) -> str | None:
    """Why a request is not answered with a certificate for `names`, as a phrase, or None when it may be."""
    for name in request.names:
        if not _is_granted(name, names):
            return f"it names {str(name.value)[:100]!a}, which is not what is granted here: {names.id} and its names"
    if rows.get(Revocation, By.SPKI, "", request.spki) is not None:
        return "its key was revoked; make a new one"
    if any(_certified(authority.certificate) == request.spki for authority in rows.every(AuthorityState)):
        return "its key is a CA's own"
    return None


def _acceptable(key: object) -> LeafKey:
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, _CURVES):
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case rsa.RSAPublicKey() if key.key_size in _RSA_BITS:
            return key
    raise CsrError(
        "its key is of a kind or size not certified here: expected P-256, P-384, Ed25519 or RSA from 2048 on"
    )


def _names(request: x509.CertificateSigningRequest) -> tuple[x509.GeneralName, ...]:
    try:
        return tuple(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _is_granted(name: x509.GeneralName, names: Names) -> bool:
    match name:
        case x509.UniformResourceIdentifier():
            return name.value == str(names.id)
        case x509.DNSName():
            return name.value in names.dns
        case x509.IPAddress():
            return name.value in names.ips
    return False


@lru_cache(maxsize=32)  # a CA has a handful of authorities, and is asked about them with every request
def _certified(certificate: bytes) -> str:
    return _spki(x509.load_der_x509_certificate(certificate).public_key())


def _spki(key: CertificatePublicKeyTypes) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
