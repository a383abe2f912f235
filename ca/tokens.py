"""Join tokens: what they look like, and whether one may be used. Decisions only.

    mj1.<base64url of: version, id (16 bytes), secret (32), the SHA-256 of the roots, the addresses of the CA>

Whoever holds one may be certified as exactly one identity. It carries the fingerprints of the roots, so the first
contact needs no other secret and cannot be with a stranger; of the secret the CA keeps only a hash.

An answer may be lost on its way. So the same token with the same key gets the same certificate again for as long as the
token lives; with another key it was copied, and somebody should know.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ca import base64url
from ca.refusals import Refused, Why
from ca.rows import TokenState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ca.rows import Redemption, Token

PREFIX: Final = "mj1."
ID_BYTES: Final = 16
SECRET_BYTES: Final = 32
_VERSION: Final = 1
_PIN_BYTES: Final = 32
_MOST: Final = 8  # roots, and addresses
MOST_USES: Final = 1000
_LONGEST: Final = 4096  # characters; eight of each need fewer
_ADDRESS: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})"
)


class TokenError(ValueError):
    """A text that is no join token; the text of the error is a phrase, and never holds any of the token."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a token says. Constructing one checks it; `pins` are the SHA-256 of the roots' DER."""

    id: bytes
    secret: bytes = field(repr=False)
    pins: tuple[bytes, ...]
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.id) != ID_BYTES or len(self.secret) != SECRET_BYTES:
            raise TokenError("its id or its secret has a wrong length")
        if not 1 <= len(self.pins) <= _MOST or any(len(pin) != _PIN_BYTES for pin in self.pins):
            raise TokenError("it must name one to eight roots")
        if len(self.addresses) > _MOST:
            raise TokenError("it names more than eight addresses")
        for address in self.addresses:
            match = _ADDRESS.fullmatch(address)
            if match is None or not 0 < int(match[1]) < 65536:
                raise TokenError("an address in it is not host:port")

    def __str__(self) -> str:
        """Never the token: whatever is printed by mistake lets nobody in. `encode` gives it."""
        return f"join token {self.id.hex()}"


@dataclass(frozen=True, slots=True)
class Use:
    """The token may be used, for the time of this number, counted from 1."""

    number: int


@dataclass(frozen=True, slots=True)
class Again:
    """The same key was certified by the same token before: it gets the same certificate."""

    redemption: Redemption


def encode(token: JoinToken) -> str:
    """The token as text."""
    content = bytes([_VERSION]) + token.id + token.secret + bytes([len(token.pins)]) + b"".join(token.pins)
    content += bytes([len(token.addresses)])
    for address in token.addresses:
        content += bytes([len(address)]) + address.encode()
    return PREFIX + base64url.encode(content)


def decode(text: str) -> JoinToken:
    """Read a text that `encode` could have made, and no other; raises TokenError."""
    if not text.startswith(PREFIX):
        raise TokenError(f"it does not begin with {PREFIX}")
    if len(text) > _LONGEST:
        raise TokenError(f"it is longer than {_LONGEST} characters")
    try:
        rest = base64url.decode(text.removeprefix(PREFIX))
    except ValueError as error:
        raise TokenError(f"it is damaged ({error})") from None
    version, rest = _cut(rest, 1)
    if version[0] != _VERSION:
        raise TokenError(f"it is of version {version[0]}, made by a later meshproxy")
    identity, rest = _cut(rest, ID_BYTES)
    secret, rest = _cut(rest, SECRET_BYTES)
    count, rest = _cut(rest, 1)
    joined, rest = _cut(rest, count[0] * _PIN_BYTES)
    pins = tuple(joined[at : at + _PIN_BYTES] for at in range(0, len(joined), _PIN_BYTES))
    count, rest = _cut(rest, 1)
    addresses = []
    for _ in range(count[0]):
        size, rest = _cut(rest, 1)
        address, rest = _cut(rest, size[0])
        if not address.isascii():
            raise TokenError("an address in it is not host:port")
        addresses.append(address.decode())
    if rest:
        raise TokenError("there is something behind its end")
    return JoinToken(identity, secret, pins, tuple(addresses))


def secret_hash(secret: bytes) -> str:
    """What is kept of a secret: its SHA-256 in hex. It is 32 random bytes, so nothing slower is needed."""
    return hashlib.sha256(secret).hexdigest()


def refusal(token: Token | None, secret: bytes, *, now: datetime) -> Refused | None:
    """Why nobody may use a token at `now` with a secret that was presented, or None: then its uses decide.

    A token nobody knows and a wrong secret get the same answer, so that nobody learns which tokens there are.
    """
    known = token.secret_sha256 if token is not None else secret_hash(b"")
    right = hmac.compare_digest(secret_hash(secret), known)
    if token is None or (not right and token.state is not TokenState.LOCKED):
        return Refused(Why.WRONG_SECRET, "there is no such token, or its secret is another")
    if token.state is TokenState.LOCKED:
        return Refused(
            Why.TOKEN_LOCKED, "too many wrong secrets were tried on this token; create a new one", alert=True
        )
    if token.state is TokenState.REVOKED:
        return Refused(Why.TOKEN_REVOKED, "this token was revoked; create a new one")
    if now > token.expires:
        ended = f"{token.expires:%Y-%m-%dT%H:%M:%SZ}"
        return Refused(Why.TOKEN_EXPIRED, f"this token expired at {ended}; create a new one")
    return None


def redeem(token: Token, redemptions: Sequence[Redemption], spki: str) -> Use | Again | Refused:
    """Whether a token that is not refused may certify the key with the hash `spki`; nothing is consumed here.

    `redemptions` are all uses of it so far, in order.
    """
    before = next((each for each in redemptions if each.spki == spki), None)
    if before is not None:
        return Again(before)
    if token.used < token.uses:
        return Use(token.used + 1)
    last = redemptions[-1]
    return Refused(
        Why.TOKEN_USED,
        f"this token was used by {last.peer or 'somebody'} at {last.at:%Y-%m-%dT%H:%M:%SZ} with another key; if that "
        f"was not you, revoke serial {last.serial}",
        alert=True,
    )


def _cut(content: bytes, size: int) -> tuple[bytes, bytes]:
    if len(content) < size:
        raise TokenError("it is cut short")
    return content[:size], content[size:]
