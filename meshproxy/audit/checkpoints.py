"""Checkpoints: how far a chain goes, signed with the sidecar's own identity key, so that nobody else can make one.

A checkpoint is a flattened JWS (RFC 7515 section 7.2.2) with the sidecar's chain in `x5c` (section 4.1.6): whoever
holds the roots can judge it, and any JOSE library can. Documents of the CA are another thing (`ca.signed`), which a
leaf may not sign; `typ` keeps the two apart. Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from ca import base64url, json_text
from ca.bundle import BundleError, read_bundle
from ca.svid import LeafError, chain_fault, read_certificate, read_leaf
from meshproxy.audit.lines import Checkpoint, Why

if TYPE_CHECKING:
    from cryptography import x509

    from ca.keys import SigningKey
    from ca.spiffe_id import SpiffeId

KIND: Final = "meshproxy-audit-checkpoint"

_LONGEST_CHAIN: Final = 8

# RFC 7518 section 3.1: by the size of the curve in bits; the hash, the name, and the bytes of r and of s.
_CURVES: Final[dict[int, tuple[hashes.HashAlgorithm, str, int]]] = {
    256: (hashes.SHA256(), "ES256", 32),
    384: (hashes.SHA384(), "ES384", 48),
    521: (hashes.SHA512(), "ES512", 66),
}


class CheckpointError(ValueError):
    """A checkpoint that is not to be believed; the text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Signer:
    """The sidecar: its chain, leaf first, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: SigningKey = field(repr=False)


class Seal(msgspec.Struct, frozen=True):
    """What a checkpoint says: up to line `seq`, whose hash is `hash`, the chain of this name was written by `at`."""

    chain: str
    seq: int
    hash: str
    at: str
    why: Why


@dataclass(frozen=True, slots=True)
class Sealed:
    """A checkpoint that bears its signature: what it says, and who signed it."""

    seal: Seal
    signer: SpiffeId
    chain: tuple[x509.Certificate, ...]


class _Header(msgspec.Struct, frozen=True):
    alg: str
    typ: str
    x5c: tuple[str, ...]
    crit: tuple[str, ...] = ()


def sign(seal: Seal, by: Signer) -> Checkpoint:
    """The line that says so. Raises CheckpointError when the key is of a kind that does not sign here."""
    algorithm = _algorithm(by.key.public_key())
    if not algorithm:
        raise CheckpointError("the identity's key is of a kind that signs no checkpoint")
    x5c = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in by.chain]
    header = msgspec.json.encode({"alg": algorithm, "typ": KIND, "x5c": x5c})
    protected, payload = base64url.encode(header), base64url.encode(msgspec.json.encode(seal))
    signature = _signature(by.key, f"{protected}.{payload}".encode())
    return Checkpoint(seal.at, payload, protected, base64url.encode(signature))


def read(line: Checkpoint) -> Sealed:
    """Read a checkpoint and judge its signature by the certificate it carries. Raises CheckpointError."""
    try:
        header = json_text.read(base64url.decode(line.protected), _Header)
        seal = json_text.read(base64url.decode(line.payload), Seal)
        signature = base64url.decode(line.signature)
    except ValueError as error:
        raise CheckpointError(f"it is no signed document: {error}") from error
    if header.typ != KIND or header.crit:
        raise CheckpointError(f"it is a {header.typ[:80]!a}, expected a {KIND}")
    chain = _chain(header)
    try:
        leaf = read_leaf(chain[0].public_bytes(Encoding.DER))
        key = chain[0].public_key()
    except (LeafError, UnsupportedAlgorithm, ValueError) as error:
        raise CheckpointError(f"its signer is no SPIFFE identity: {error}") from error
    if not header.alg or header.alg != _algorithm(key):
        raise CheckpointError(f"it is signed by {header.alg[:20]!a}, which its signer's key does not do")
    if not _is_signed(key, signature, f"{line.protected}.{line.payload}".encode()):
        raise CheckpointError("its signature is wrong: it was changed")
    return Sealed(seal, leaf.id, chain)


def trust_fault(sealed: Sealed, bundle: bytes) -> str | None:
    """Why the signer is not vouched for by the roots in `bundle` (PEM) at the time it says; None when it is.

    That time is the word of the signer.
    """
    try:
        at = datetime.fromisoformat(sealed.seal.at)
    except ValueError:
        return "it says no time"
    if at.tzinfo is None:
        return "its time has no zone"
    try:
        roots = read_bundle(bundle, home=sealed.signer.trust_domain)
    except BundleError as error:
        return str(error)
    return chain_fault(sealed.chain, roots, at)


def _chain(header: _Header) -> tuple[x509.Certificate, ...]:
    if not 1 <= len(header.x5c) <= _LONGEST_CHAIN:
        raise CheckpointError(f"it has {len(header.x5c)} certificates, expected 1 to {_LONGEST_CHAIN}")
    try:
        return tuple(read_certificate(base64.b64decode(each, validate=True)) for each in header.x5c)
    except (ValueError, binascii.Error) as error:
        raise CheckpointError(f"a certificate in it is {error}") from error


def _algorithm(key: object) -> str:
    """The name of what a key signs with here (RFC 7518 section 3.1, RFC 8037 section 3.1); empty: nothing."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES[key.key_size][1] if key.key_size in _CURVES else ""
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256"
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) else ""


def _signature(key: SigningKey, text: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest, _, half = _CURVES[key.key_size]
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(digest)))
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(text)


def _is_signed(key: object, signature: bytes, text: bytes) -> bool:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            digest, _, half = _CURVES[key.key_size]
            if len(signature) != 2 * half:
                return False
            r, s = (int.from_bytes(each, "big") for each in (signature[:half], signature[half:]))
            key.verify(encode_dss_signature(r, s), text, ec.ECDSA(digest))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, text)
        else:
            return False
    except InvalidSignature:
        return False
    return True
