"""Documents that the CA signs: JSON Web Signatures (RFC 7515), flattened, ES256, with the intermediate in `x5c`.

A document carries the certificate that signed it, so whoever holds the roots can judge it, and any JOSE library can. It
is believed only if that certificate is a CA's, directly below one of the roots: a leaf signs nothing here, whoever
issued it. `typ` names the kind of document and is compared, so none can be passed off as another.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from ca import base64url, json_text
from ca.inspection import is_authority
from ca.svid import read_certificate, signature_fault, time_fault

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

_ALGORITHM: Final = "ES256"  # RFC 7518 3.4: P-256 and SHA-256, the signature as r and s of 32 bytes each
_HALF: Final = 32


class SignatureError(ValueError):
    """A document that is not to be believed; the text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs documents: an intermediate, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """A document that is to be believed: what it says, and who signed it."""

    payload: bytes
    signer: x509.Certificate


class _Header(msgspec.Struct, frozen=True):
    alg: str
    typ: str
    x5c: tuple[str, ...]
    crit: tuple[str, ...] = ()


class _Document(msgspec.Struct, frozen=True):
    payload: str
    protected: str
    signature: str


def sign(payload: bytes, *, kind: str, by: Signer) -> bytes:
    """The document that says `payload`, signed; `kind` becomes its typ."""
    x5c = base64.b64encode(by.certificate.public_bytes(Encoding.DER)).decode()
    header = msgspec.json.encode({"alg": _ALGORITHM, "typ": kind, "x5c": [x5c]})
    protected, body = base64url.encode(header), base64url.encode(payload)
    r, s = decode_dss_signature(by.key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
    signature = base64url.encode(r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big"))
    return msgspec.json.encode(_Document(body, protected, signature)) + b"\n"


def verify(document: bytes, *, kind: str, roots: Iterable[x509.Certificate], now: datetime | None) -> Signed:
    """Read a document and judge its signature by the roots of a trust domain.

    With `now` the signer must be valid then; None asks only who signed it, whenever. Raises SignatureError.
    """
    try:
        outer = json_text.read(document, _Document)
        header = json_text.read(base64url.decode(outer.protected), _Header)
        payload, signature = base64url.decode(outer.payload), base64url.decode(outer.signature)
    except ValueError as error:
        raise SignatureError(f"it is no signed document: {error}") from error
    if header.alg != _ALGORITHM or header.crit:
        raise SignatureError(f"it is signed in another way than {_ALGORITHM}")
    if header.typ != kind:
        raise SignatureError(f"it is a {header.typ[:80]!a}, expected a {kind}")
    signer = _signer(header)
    if not is_authority(signer):
        raise SignatureError("its signer is not a CA")
    if fault := signature_fault((signer,), roots) or (time_fault(signer, now) if now is not None else None):
        raise SignatureError(f"its signer is not trusted: {fault}")
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError(f"its signer's key is not one of {_ALGORITHM}")
    if len(signature) != 2 * _HALF:
        raise SignatureError("its signature has a wrong length")
    r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:]))
    try:
        key.verify(encode_dss_signature(r, s), f"{outer.protected}.{outer.payload}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("its signature is wrong: it was changed") from None
    return Signed(payload, signer)


def _signer(header: _Header) -> x509.Certificate:
    if len(header.x5c) != 1:
        raise SignatureError(f"it names {len(header.x5c)} signers, expected one")
    try:
        return read_certificate(base64.b64decode(header.x5c[0], validate=True))
    except (ValueError, binascii.Error) as error:
        raise SignatureError(f"its signer is {error}") from error
