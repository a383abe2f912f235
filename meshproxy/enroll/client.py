"""What a client asks of its CA, in the words of `ca.messages`: a certificate, the next one, and whom to believe.

Several addresses are tried in turn, since each is the same CA; what it answers is judged by `judging` before any of it
is kept. The key never leaves us: only requests that prove it do (PKCS#10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding

from ca.messages import (
    ENROL,
    NONCE,
    RENEW,
    RENEW_EXPIRED,
    TRUST,
    Certified,
    EnrolRequest,
    LateRenewRequest,
    Nonce,
    RenewRequest,
    Trust,
)
from meshproxy.enroll.approach import Anchor, Line, Patience, Proof, may_ask_another
from meshproxy.enroll.exchange import Request
from meshproxy.enroll.faults import ClockApart, EnrolmentError, RefusedByCa, Unreachable, Untrusted, worst
from meshproxy.enroll.late import to_be_signed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ca.keys import SigningKey
    from ca.tokens import JoinToken
    from meshproxy.enroll.approach import Approach
    from meshproxy.wire.address import TcpAddress

_T = TypeVar("_T")
_USUAL = Patience()


class CaClient:
    """Asks a CA. Every method raises Unreachable, Untrusted, ClockApart or RefusedByCa, when no address helps.

    `on_failure` is told of each address that did not, also when another then does.
    """

    def __init__(self, approach: Approach, on_failure: Callable[[EnrolmentError], None] | None = None) -> None:
        self._approach = approach
        self._on_failure = on_failure

    def __repr__(self) -> str:
        return f"<CaClient {self._approach!r}>"

    async def enrol(
        self, addresses: Sequence[TcpAddress], token: JoinToken, csr: bytes, *, patience: Patience = _USUAL
    ) -> tuple[Certified, Anchor]:
        """Use a token for the key of a request (DER). Also returns by what the CA was known."""

        async def at(address: TcpAddress) -> tuple[Certified, Anchor]:
            pinned = await self._approach.pinned_roots(address, token.pins, patience)
            line = await self._approach.line(address, pinned, None, patience)
            asked = EnrolRequest(token.id.hex(), token.secret, csr)
            certified = await line.ask(_post(ENROL, asked), Certified, patience)
            return certified, Anchor(pinned.roots, line.home)

        return await self._in_turn(addresses, at)

    async def renew(
        self, addresses: Sequence[TcpAddress], anchor: Anchor, proof: Proof, csr: bytes, *, patience: Patience = _USUAL
    ) -> Certified:
        """Ask for the next certificate, for the key of `csr` (DER), by mutual TLS with the one before."""

        async def at(address: TcpAddress) -> Certified:
            line = await self._approach.line(address, anchor, proof, patience)
            return await line.ask(_post(RENEW, RenewRequest(csr)), Certified, patience)

        return await self._in_turn(addresses, at)

    async def renew_late(
        self,
        addresses: Sequence[TcpAddress],
        anchor: Anchor,
        leaf: bytes,
        key: SigningKey,
        csr: bytes,
        *,
        patience: Patience = _USUAL,
    ) -> Certified:
        """Do as `renew` for a leaf (DER) that has expired, and that TLS takes no more: its `key` signs a nonce."""

        async def at(address: TcpAddress) -> Certified:
            line = await self._approach.line(address, anchor, None, patience)
            given = await line.ask(Request(b"GET", NONCE), Nonce, patience)
            asked = LateRenewRequest(leaf, given.nonce, late_signature(key, given.nonce, csr), csr)
            line = await self._approach.line(address, anchor, None, patience)
            return await line.ask(_post(RENEW_EXPIRED, asked), Certified, patience)

        return await self._in_turn(addresses, at)

    async def trust(
        self,
        addresses: Sequence[TcpAddress],
        anchor: Anchor,
        proof: Proof | None,
        *,
        loaded: int | None,
        have: str | None = None,
        patience: Patience = _USUAL,
    ) -> Trust | None:
        """Ask whom to believe, and say (where that is proved) which roots we have loaded.

        None when it is what we `have` (`Trust.digest`): a long deny-list need not travel every minute.
        """
        told = [] if loaded is None else [b"loaded=%d" % loaded]
        query = b"&".join(told if have is None else [*told, b"have=" + have.encode()])

        async def at(address: TcpAddress) -> Trust | None:
            line: Line = await self._approach.line(address, anchor, proof, patience)
            return await line.ask_for_news(Request(b"GET", TRUST, query), Trust, patience)

        return await self._in_turn(addresses, at)

    async def _in_turn(self, addresses: Sequence[TcpAddress], at: Callable[[TcpAddress], Awaitable[_T]]) -> _T:
        faults: list[EnrolmentError] = []
        for address in addresses:
            try:
                return await at(address)
            except RefusedByCa as refused:
                if not may_ask_another(refused):
                    raise
                faults.append(refused)
            except (Unreachable, Untrusted, ClockApart) as fault:
                faults.append(fault)
            if self._on_failure is not None:
                self._on_failure(faults[-1])
        raise worst(faults) or Unreachable(
            "nobody said where the CA is; name it with --ca HOST:PORT (in a sidecar's file: ca = ...)"
        )


def request_for(key: SigningKey) -> bytes:
    """A request (PKCS#10, DER) that proves the key and names nothing: what it is for, the token or the leaf says."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def late_signature(key: SigningKey, nonce: bytes, csr: bytes) -> bytes:
    """What `LateRenewRequest` asks for: ECDSA with SHA-256, Ed25519, or RSA-PSS with SHA-256 (and a salt as long)."""
    said = to_be_signed(nonce, csr)
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(said, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(said)
        case _:
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
            return key.sign(said, pss, hashes.SHA256())


def _post(path: bytes, asked: msgspec.Struct) -> Request:
    return Request(b"POST", path, b"", msgspec.json.encode(asked))
