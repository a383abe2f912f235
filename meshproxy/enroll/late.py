"""Renewal of a leaf that has expired, which TLS no longer takes: proved by a signature instead.

The CA gives a nonce, and remembers none: it knows its own again, for a minute. The old key signs it together with the
request, behind words that are for nothing else. Whether such a leaf is renewed at all, `ca/enrollment` decides.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ca.messages import LATE_CONTEXT
from ca.svid import UNREADABLE, read_certificate

if TYPE_CHECKING:
    from ca.messages import LateRenewRequest

NONCE_LIFE: Final = timedelta(minutes=1)
_TIME: Final = struct.Struct(">Q")
_RANDOM_BYTES: Final = 16
_TAG_BYTES: Final = 32
_LONGEST_KEY: Final = 8192  # bits of RSA: proving longer ones would be a way to keep us busy


class Nonces:
    """Nonces of this process: when, some random bytes, and a tag over both that only its key can make."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key

    def __repr__(self) -> str:
        return "<Nonces>"

    def make(self, now: datetime) -> bytes:
        """Return one that is good for a minute."""
        said = _TIME.pack(int(now.timestamp() * 1000)) + secrets.token_bytes(_RANDOM_BYTES)
        return said + self._tag(said)

    def is_good(self, nonce: bytes, now: datetime) -> bool:
        """Whether it is one of ours and not too old."""
        said, tag = nonce[:-_TAG_BYTES], nonce[-_TAG_BYTES:]
        if len(said) != _TIME.size + _RANDOM_BYTES or not hmac.compare_digest(tag, self._tag(said)):
            return False
        made = datetime.fromtimestamp(_TIME.unpack(said[: _TIME.size])[0] / 1000, UTC)
        return timedelta(0) <= now.replace(microsecond=now.microsecond // 1000 * 1000) - made <= NONCE_LIFE

    def _tag(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")


def to_be_signed(nonce: bytes, csr: bytes) -> bytes:
    """What the old key signs."""
    return LATE_CONTEXT + hashlib.sha256(nonce).digest() + hashlib.sha256(csr).digest()


def is_proven(asked: LateRenewRequest) -> bool:
    """Whether the key of the leaf made the signature: ECDSA or RSA-PSS with SHA-256, or Ed25519.

    The salt of PSS is as long as the hash (RFC 8017 9.1).
    """
    said = to_be_signed(asked.nonce, asked.csr)
    try:
        key = read_certificate(asked.leaf).public_key()
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(asked.signature, said, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey():
                key.verify(asked.signature, said)
            case rsa.RSAPublicKey() if key.key_size <= _LONGEST_KEY:
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
                key.verify(asked.signature, said, pss, hashes.SHA256())
            case _:
                return False
    except (*UNREADABLE, InvalidSignature):
        return False
    return True
