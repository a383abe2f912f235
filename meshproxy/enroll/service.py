"""The desk of a CA: what is asked for over TLS, and what is answered (`ca/messages`).

Who gets a certificate, `ca/granting` decides, within the ledger's transaction; here somebody is heard, held back when
he comes too often, and answered. What was granted is durable before it is answered.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from ca import granting, json_text, messages
from ca.granting import Enrolment, Granted, Renewal
from ca.ledger import LedgerBusy, LedgerError, LedgerFull
from ca.messages import Certified, EnrolRequest, LateRenewRequest, Nonce, Refusal, RenewRequest, Trouble
from ca.premises import AuthorityError, NoActiveAuthority
from ca.refusals import Refused, Why
from ca.svid import LeafError, judge_leaf, read_leaf
from meshproxy.enroll.exchange import JSON, PROBLEM, Answer
from meshproxy.enroll.late import Nonces, is_proven

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ca.svid import Leaf
    from meshproxy.enroll.account import Account
    from meshproxy.enroll.books import Books
    from meshproxy.enroll.exchange import Request
    from meshproxy.enroll.rates import Gate, TooOften

MOST_BYTES: Final = 96 * 1024  # of a body: leaf and request of 16 KiB each, in base64, and what is around them
_MOST_REPORTS: Final = 16_384
_SOON: Final = 5.0  # seconds: when to come back to a CA that cannot write
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")
_QUERY: Final = re.compile(rb"(?:loaded=([0-9]{1,18}))?(?:(?:^|(?<=[0-9])&)have=([0-9a-f]{64}))?")
_PEM: Final = b"application/pem-certificate-chain"

_STATUS: Final[dict[str, int]] = {
    Why.WRONG_SECRET: 403,
    Why.TOKEN_LOCKED: 403,
    Why.TOKEN_REVOKED: 403,
    Why.TOKEN_EXPIRED: 403,
    Why.TOKEN_USED: 409,
    Why.BAD_CSR: 422,
    Why.NOT_ALLOWED: 403,
    Why.UNKNOWN_CERTIFICATE: 403,
    Why.REVOKED: 403,
    Why.SUSPECT: 409,
    Why.EXPIRED: 403,
    Why.CA_RUNNING_OUT: 503,
    Trouble.BAD_REQUEST: 400,
    Trouble.TOO_MANY: 429,
    Trouble.UNAVAILABLE: 503,
    Trouble.NO_CERTIFICATE: 401,
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks: his address, and the leaf (DER) whose key he has proved to hold and whose chain leads to our roots."""

    address: str
    leaf: bytes | None = None


class _Denied(Exception):
    """There is no answer but this one."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.title)
        self.refusal = refusal


class Desk:
    """Answers requests. `clock` counts seconds for the rates; `wall` is what certificates go by."""

    def __init__(
        self, books: Books, gate: Gate, account: Account, *, wall: Callable[[], datetime], clock: Callable[[], float]
    ) -> None:
        self._books = books
        self._account = account
        self._wall = wall
        self._clock = clock
        self._nonces = Nonces()
        self._reported: dict[str, int] = {}  # by leaf, what is in the ledger already; bounded
        self.gate = gate  # another one, when ca.toml says so
        self._routes: dict[bytes, tuple[bytes, str, Callable[[Request, Peer], Awaitable[Answer]]]] = {
            messages.BUNDLE: (b"GET", "bundle", self._bundle),
            messages.CRL: (b"GET", "crl", self._crl),
            messages.ENROL: (b"POST", "enrol", self._enrol),
            messages.TRUST: (b"GET", "trust", self._trust),
            messages.RENEW: (b"POST", "renew", self._renew),
            messages.NONCE: (b"GET", "nonce", self._nonce),
            messages.RENEW_EXPIRED: (b"POST", "renew-expired", self._renew_expired),
        }

    def __repr__(self) -> str:
        return f"<Desk {self._books!r}>"

    async def answer(self, request: Request, peer: Peer) -> Answer:
        """Answer one request; never raises for anything that a peer, the disk or the ledger can do."""
        method, kind, handle = self._routes.get(request.path, (b"", "nothing", self._nothing))
        if method and request.method != method and (method, request.method) != (b"GET", b"HEAD"):
            refused = self.unsound(405, f"only {method.decode()} here", peer.address)
            # RFC 9110 section 15.5.6: Allow is a MUST.
            return replace(refused, allow=b"GET, HEAD" if method == b"GET" else method)
        try:
            return await handle(request, peer)
        except _Denied as denied:
            if denied.refusal.why == Trouble.BAD_REQUEST:
                self._account.trouble(kind, denied.refusal.why, denied.refusal.title, peer=peer.address)
            return problem(denied.refusal)
        except (LedgerError, AuthorityError, OSError) as error:
            self._account.unavailable(_word(error), str(error))
            text = "no certificate can be given now; come back later"
            return problem(_refusal(text, Trouble.UNAVAILABLE, retry_after=_SOON))

    def unsound(self, status: int, detail: str, peer: str) -> Answer:
        """Answer what is no request."""
        self._account.trouble("nothing", Trouble.BAD_REQUEST, detail, peer=peer)
        return problem(_refusal(detail, Trouble.BAD_REQUEST, status=status))

    async def _nothing(self, _request: Request, _peer: Peer) -> Answer:
        raise _Denied(_refusal("there is nothing here", Trouble.BAD_REQUEST, status=404))

    async def _bundle(self, _request: Request, _peer: Peer) -> Answer:
        return Answer(200, JSON, self._books.shown.trust.bundle.encode())

    async def _crl(self, _request: Request, _peer: Peer) -> Answer:
        return Answer(200, _PEM, self._books.shown.crl)

    async def _nonce(self, _request: Request, _peer: Peer) -> Answer:
        return _said(Nonce(self._nonces.make(self._wall())))

    async def _trust(self, request: Request, peer: Peer) -> Answer:
        """Whom to believe is no secret; what the caller believes is noted when we know who he is."""
        asked = _QUERY.fullmatch(request.query)
        if asked is None:
            raise _bad("loaded=N, the number of the bundle in use, and have=D, the SHA-256 of the last answer, is all")
        loaded, have = asked.groups()
        if loaded is not None and peer.leaf is not None:
            await self._report(peer.leaf, int(loaded), peer.address)
        shown = self._books.shown
        if have is not None and have.decode() == shown.digest:
            return Answer(304, JSON, b"")  # RFC 9110 15.4.5
        return _said(shown.trust)

    async def _report(self, leaf: bytes, number: int, address: str) -> None:
        """A report that is lost is made again in a minute: the answer does not depend on it."""
        try:
            home = self._books.configured.trust_domain
            holder = judge_leaf(leaf, home=home, now=self._wall()).fingerprint
            if self._reported.get(holder, -1) >= number:
                return  # said before, as most are: the ledger need not be asked
            if await self._books.read(lambda ledger, _now: granting.report(ledger, leaf, number)):
                self._reported.pop(holder, None)
                if len(self._reported) >= _MOST_REPORTS:
                    del self._reported[next(iter(self._reported))]
                self._reported[holder] = min(number, self._books.shown.bundle_sequence)
        except (LeafError, ValueError) as error:
            self._account.trouble("trust", Trouble.NO_CERTIFICATE, str(error), peer=address)
        except LedgerError as error:
            self._account.unavailable(_word(error), str(error))

    async def _enrol(self, request: Request, peer: Peer) -> Answer:
        self._hold_back("enrol", self.gate.enrol(peer.address, now=self._clock()), peer)
        asked = _read(request, EnrolRequest)
        if not _TOKEN.fullmatch(asked.token):
            raise _bad("token must be the token's ID, 32 hexadecimal digits")
        attempt = Enrolment(asked.token, asked.secret, asked.csr, peer.address)
        granted = await self._books.sign(
            lambda authority, ledger, now: granting.enrol(authority, ledger, attempt, now=now)
        )
        return self._told("enrol", granted, peer, token=asked.token)

    async def _renew(self, request: Request, peer: Peer) -> Answer:
        if peer.leaf is None:
            text = "a certificate is renewed over mutual TLS: present it; one that has expired is for /v1/renew-expired"
            self._account.trouble("renew", Trouble.NO_CERTIFICATE, text, peer=peer.address)
            raise _Denied(_refusal(text, Trouble.NO_CERTIFICATE))
        home = self._books.configured.trust_domain
        try:
            leaf = judge_leaf(peer.leaf, home=home, now=self._wall())
        except LeafError as error:
            raise self._unknown("renew", str(error), peer) from error
        asked = _read(request, RenewRequest)
        return await self._next(leaf, Renewal(peer.leaf, asked.csr, peer.address), "renew", peer)

    async def _renew_expired(self, request: Request, peer: Peer) -> Answer:
        self._hold_back("renew-expired", self.gate.knock(peer.address, now=self._clock()), peer)
        asked = _read(request, LateRenewRequest)
        if not self._nonces.is_good(asked.nonce, self._wall()):
            raise _bad("the nonce is none of ours, or older than a minute; get another from /v1/nonce")
        try:
            leaf = read_leaf(asked.leaf)
        except LeafError as error:
            raise self._unknown("renew-expired", str(error), peer) from error
        if leaf.id.trust_domain != self._books.configured.trust_domain:
            raise self._unknown("renew-expired", f"its trust domain is {leaf.id.trust_domain}", peer)
        if not is_proven(asked):
            raise _bad("the signature is not one of the leaf's key over this nonce and this request")
        return await self._next(leaf, Renewal(asked.leaf, asked.csr, peer.address), "renew-expired", peer)

    async def _next(self, leaf: Leaf, renewal: Renewal, kind: str, peer: Peer) -> Answer:
        """The next certificate for whoever has proved to hold the leaf."""
        identity = str(leaf.id)
        self._hold_back(kind, self.gate.renew(identity, now=self._clock()), peer, identity=identity)
        try:
            granted = await self._books.sign(
                lambda authority, ledger, now: granting.renew(authority, ledger, renewal, now=now)
            )
        except AuthorityError:
            raise  # a ValueError too, and no fault of the leaf's
        except ValueError as error:
            raise self._unknown(kind, str(error), peer) from error
        return self._told(kind, granted, peer, identity=identity)

    def _told(
        self, kind: str, granted: Granted | Refused, peer: Peer, *, token: str = "", identity: str = ""
    ) -> Answer:
        if isinstance(granted, Refused):
            self._account.refused(kind, granted, peer=peer.address, token=token, identity=identity)
            retry_after = _SOON if _STATUS[granted.why] == 503 else None
            return problem(_refusal(granted.text, granted.why, retry_after=retry_after))
        self._account.granted(kind, granted, peer=peer.address, token=token)
        chain = granted.chain_pem.decode("ascii")
        return _said(Certified(chain, self._books.shown.trust, granted.again, granted.clamped_by))

    def _hold_back(self, kind: str, wait: TooOften | None, peer: Peer, *, identity: str = "") -> None:
        if wait is None:
            return
        self._account.too_often(kind, wait, peer=peer.address, identity=identity)
        raise _Denied(_refusal("too many requests; come back later", Trouble.TOO_MANY, retry_after=wait.wait))

    def _unknown(self, kind: str, detail: str, peer: Peer) -> _Denied:
        text = f"this certificate is not one to be renewed here: {detail}"
        refused = Refused(Why.UNKNOWN_CERTIFICATE, text)
        self._account.refused(kind, refused, peer=peer.address)
        return _Denied(_refusal(text, refused.why))


def problem(refusal: Refusal) -> Answer:
    """A refusal as an answer (RFC 9457); who is to come back is told when also in the head (RFC 9110 10.2.3)."""
    after = None if refusal.retry_after is None else max(math.ceil(refusal.retry_after), 1)
    return Answer(refusal.status, PROBLEM, msgspec.json.encode(refusal), after)


def _refusal(text: str, why: Why | Trouble, *, status: int = 0, retry_after: float | None = None) -> Refusal:
    return Refusal(text, status or _STATUS[why], why.value, retry_after)


def _bad(text: str) -> _Denied:
    return _Denied(_refusal(text, Trouble.BAD_REQUEST))


def _said(value: msgspec.Struct) -> Answer:
    return Answer(200, JSON, msgspec.json.encode(value))


def _read(request: Request, kind: type[T]) -> T:
    try:
        return json_text.read(request.body, kind)
    except ValueError as error:
        raise _bad(f"the body is not what is expected here: {str(error)[:200]}") from None


def _word(error: Exception) -> str:
    match error:
        case LedgerBusy():
            return "busy"
        case LedgerFull():
            return "full"
        case NoActiveAuthority():
            return "no_authority"
        case LedgerError():
            return "ledger"
    return "authority"
