"""How a client gets to its CA: addresses in turn, a handshake, and a look at who is there before anything is said.

Two ways, and two types. A `FirstContact` trusts nobody, and all one can do with it is ask for the roots and compare
them with the pins of a token; no relay takes it. A `Line` leads to whoever has proved, by a chain up to a root we
believe, to be the CA of our trust domain; secrets are said on a line only.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from ca import json_text, spiffe_bundle
from ca.bundle import BundleError
from ca.identity_directory import MOST_TRUST_BYTES
from ca.messages import BUNDLE, SERVICE_PATH, Refusal, Trouble
from ca.spiffe_id import SpiffeId
from ca.svid import LeafError, LeafFault, judge_leaf, read_leaf
from meshproxy.enroll.exchange import Answer, Request, Unsound, ask
from meshproxy.enroll.faults import ClockApart, EnrolmentError, RefusedByCa, Unreachable, Untrusted, worst
from meshproxy.enroll.judging import home_of
from meshproxy.identity.contexts import as_file
from meshproxy.wire.closing import reset
from meshproxy.wire.dial import ResolveError, connect
from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault, alert_in_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from cryptography import x509

    from ca.spiffe_id import TrustDomain
    from meshproxy.wire.address import TcpAddress
    from meshproxy.wire.dial import Resolver, Target
    from meshproxy.wire.relay import Wall
    from meshproxy.wire.sweep import Sweeper

_T = TypeVar("_T")
_MOST_OF_A_STRANGER: Final = 1 << 20  # bytes of an answer
_MOST: Final = MOST_TRUST_BYTES + (1 << 20)  # of the CA's: whom to believe, and a certificate
_CLOCKS: Final = frozenset({HandshakeFault.EXPIRED, HandshakeFault.NOT_YET_VALID})
_STRANGERS: Final = frozenset({HandshakeFault.UNKNOWN_CA, HandshakeFault.BAD_CERTIFICATE})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for one address to accept, for its handshake, for its answer."""

    connect: float = 5.0
    handshake: float = 10.0
    answer: float = 15.0

    def part(self, share: float) -> Patience:
        """Less of all of them."""
        return Patience(self.connect * share, self.handshake * share, self.answer * share)


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the CA is known by: the roots we believe, and the trust domain they are of (None: its own leaf says)."""

    roots: tuple[x509.Certificate, ...]
    home: TrustDomain | None

    def context(self) -> ssl.SSLContext:
        """A client's: TLS 1.3, the chain checked by OpenSSL up to these roots. The name is `Line`'s to judge."""
        context = _client_context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_pem(self.roots).decode("ascii"))
        return context


@dataclass(frozen=True, slots=True)
class Proof:
    """Who we are, where that is to be shown: a chain and its unsealed key, as PEM."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


class Approach:
    """Opens connections to a CA. One exchange each, as the protocol has it."""

    def __init__(self, resolver: Resolver, sweeper: Sweeper, wall: Wall) -> None:
        self._resolver = resolver
        self._sweeper = sweeper
        self._wall = wall

    def __repr__(self) -> str:
        return "<Approach>"

    async def pinned_roots(self, address: TcpAddress, pins: Collection[bytes], patience: Patience) -> Anchor:
        """Ask whoever is there for his roots; return those whose SHA-256 is pinned. Raises Unreachable, Untrusted."""
        tls = await self._tls(address, _client_context(), patience)
        contact = FirstContact(TlsStream(tls), address)
        try:
            document = await contact.roots(patience)
        finally:
            contact.leave()
        return _pinned(document, pins, address)

    async def line(self, address: TcpAddress, anchor: Anchor, proof: Proof | None, patience: Patience) -> Line:
        """Connect to whoever proves to be the CA. Raises Unreachable, Untrusted, ClockApart."""
        context = anchor.context()
        if proof is not None:
            with as_file(proof.chain_pem) as chain, as_file(proof.key_pem) as key:
                context.load_cert_chain(chain, key, password=lambda: b"")
        tls = await self._tls(address, context, patience)
        try:
            home = _require_ca(tls, anchor.home, address, now=self._wall())
        except BaseException:
            reset(tls.sock)
            raise
        return Line(TlsStream(tls), address, home)

    async def _tls(self, address: TcpAddress, context: ssl.SSLContext, patience: Patience) -> TlsConnection:
        try:
            targets = await self._resolver.resolve(address, within=patience.connect)
        except ResolveError as error:
            raise Unreachable(f"the CA at {address}: {error}") from error
        faults: list[EnrolmentError] = []
        for target in targets:
            try:
                return await self._handshake(target, context, address, patience)
            except trio.TooSlowError:
                words = f"no answer within {patience.connect:g} s"
            except OSError as error:
                words = (error.strerror or str(error)).lower()
            except EnrolmentError as fault:
                faults.append(fault)  # a name may have several addresses: the next may be sound
                continue
            faults.append(Unreachable(f"the CA at {address} cannot be reached: {words}"))
        raise worst(faults) or Unreachable(f"the CA at {address} cannot be reached: its name has no address")

    async def _handshake(
        self, target: Target, context: ssl.SSLContext, address: TcpAddress, patience: Patience
    ) -> TlsConnection:
        sock = await connect(target, within=patience.connect)
        try:
            tls = TlsConnection(sock, context, server_side=False)
            await tls.handshake(self._sweeper, within=patience.handshake)
        except HandshakeError as error:
            reset(sock)
            if error.fault in _STRANGERS:
                raise Untrusted(
                    f"whoever answers at {address} is not our CA: its certificate leads to none of our roots "
                    f"({error.detail}); nothing was sent to it. Somebody may be in between, or the CA was made anew"
                ) from error
            if error.fault in _CLOCKS:
                raise ClockApart(
                    f"the CA at {address} shows a certificate that is not valid now ({error.detail}); check the clocks "
                    "of both machines"
                ) from error
            raise Unreachable(f"the CA at {address}: the handshake failed: {error.detail}") from error
        except BaseException:
            reset(sock)
            raise
        return tls


class FirstContact:
    """A connection to nobody knows whom. There is one question one may put to him."""

    def __init__(self, stream: TlsStream, address: TcpAddress) -> None:
        self._stream = stream
        self._address = address

    def __repr__(self) -> str:
        return f"<FirstContact {self._address}>"

    async def roots(self, patience: Patience) -> bytes:
        """What he says his roots are. Raises Unreachable."""
        answer = await _answer(self._stream, Request(b"GET", BUNDLE), self._address, patience, most=_MOST_OF_A_STRANGER)
        if answer.status != 200:
            raise Unreachable(f"whoever answers at {self._address} gives no roots (HTTP {answer.status})")
        return answer.body

    def leave(self) -> None:
        """Break off; there is nothing to lose."""
        self._stream.abort()


class Line:
    """A connection to the CA of the trust domain `home`; carries one exchange."""

    def __init__(self, stream: TlsStream, address: TcpAddress, home: TrustDomain) -> None:
        self._stream = stream
        self._address = address
        self.home = home

    def __repr__(self) -> str:
        return f"<Line to the CA of {self.home} at {self._address}>"

    async def ask(self, request: Request, kind: type[_T], patience: Patience) -> _T:
        """Put a request, and hang up. Raises RefusedByCa, Unreachable."""
        said = await self.ask_for_news(request, kind, patience)
        if said is None:
            raise Unreachable(f"the CA at {self._address} has nothing to say (HTTP 304)")
        return said

    async def ask_for_news(self, request: Request, kind: type[_T], patience: Patience) -> _T | None:
        """Do as `ask`; None when we have it already."""
        try:
            answer = await _answer(self._stream, request, self._address, patience, most=_MOST)
            await self._stream.close()
        finally:
            self._stream.abort()
        if answer.status == 304:
            return None
        try:
            if answer.status == 200:
                return json_text.read(answer.body, kind)
            refusal = json_text.read(answer.body, Refusal)
        except ValueError:
            raise Unreachable(
                f"the CA at {self._address} answered with what this version cannot read (HTTP {answer.status})"
            ) from None
        raise RefusedByCa(refusal)


def may_ask_another(refused: RefusedByCa) -> bool:
    """Whether another address of the same CA may do what this one cannot now."""
    return refused.refusal.why in {Trouble.UNAVAILABLE, Trouble.TOO_MANY}


async def _answer(stream: TlsStream, request: Request, address: TcpAddress, patience: Patience, *, most: int) -> Answer:
    try:
        with trio.fail_after(patience.answer):
            return await ask(stream, request, host=str(address), most=most)
    except trio.TooSlowError:
        raise Unreachable(f"the CA at {address} gave no answer within {patience.answer:g} s") from None
    except StreamBroken as error:
        # In TLS 1.3 our handshake succeeds before the server has judged us: what it minds comes now, as an alert.
        alert = alert_in_words(str(error).upper().replace(" ", "_"))
        raise Unreachable(f"the CA at {address} broke off: {alert or error}") from error
    except Unsound as error:
        raise Unreachable(f"the CA at {address} sent no sound answer: {error}") from error


def _pinned(document: bytes, pins: Collection[bytes], address: TcpAddress) -> Anchor:
    try:
        shown = spiffe_bundle.read(document, home=None).roots
    except BundleError as error:
        raise Untrusted(f"whoever answers at {address} gives no roots: {error}; nothing was sent to it") from error
    roots = tuple(each for each in shown if hashlib.sha256(each.public_bytes(Encoding.DER)).digest() in pins)
    if not roots:
        found = ", ".join(hashlib.sha256(each.public_bytes(Encoding.DER)).hexdigest()[:16] for each in shown[:8])
        expected = ", ".join(pin.hex()[:16] for pin in pins)
        raise Untrusted(
            f"whoever answers at {address} is not the CA this token is of: the SHA-256 of its roots begin with "
            f"{found or 'nothing'}, the token names {expected}; nothing secret was sent to it. Somebody may be in "
            "between, or the token is of another CA"
        )
    return Anchor(roots, home_of(roots))


def _require_ca(tls: TlsConnection, home: TrustDomain | None, address: TcpAddress, *, now: datetime) -> TrustDomain:
    """Whoever is at the far end must be the service itself: any leaf of the mesh leads to the same roots."""
    der = tls.peer_certificate or b""
    try:
        domain = read_leaf(der).id.trust_domain if home is None else home
        leaf = judge_leaf(der, home=domain, now=now)
    except LeafError as error:
        if error.fault in {LeafFault.EXPIRED, LeafFault.NOT_YET_VALID}:
            raise ClockApart(
                f"the CA at {address} shows a certificate that is not valid now ({error.detail}); check the clocks of "
                "both machines"
            ) from error
        raise Untrusted(
            f"whoever answers at {address} is not our CA: {error.detail}; nothing was sent to it"
        ) from error
    expected = SpiffeId.of(domain, SERVICE_PATH)
    if leaf.id != expected:
        raise Untrusted(f"whoever answers at {address} is {leaf.id}, not {expected}; nothing was sent to it")
    return domain


def _client_context() -> ssl.SSLContext:
    """TLS 1.3, trusting nobody and asking for no proof: for the first contact, and to begin with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _pem(roots: Iterable[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in roots)
