"""Connecting to upstreams. An outbound connection leaves this room identified, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from ca.svid import LeafError
from meshproxy.upstream.attempt import Blame, FailedAttempt, NoUpstream, Phase, attempt_order
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.dial import ResolveError, connect
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault

if TYPE_CHECKING:
    import socket
    from datetime import datetime

    from ca import SpiffeId
    from ca.svid import Leaf
    from meshproxy.identity.own import Identity
    from meshproxy.identity.peer import Peer
    from meshproxy.wire.address import Address
    from meshproxy.wire.dial import Resolver, Target
    from meshproxy.wire.relay import Wall
    from meshproxy.wire.sweep import Sweeper
    from meshproxy.wire.turnstile import Turnstile

_BLAMES = {
    HandshakeFault.UNKNOWN_CA: Blame.CERTIFICATE,
    HandshakeFault.EXPIRED: Blame.CERTIFICATE,
    HandshakeFault.NOT_YET_VALID: Blame.CERTIFICATE,
    HandshakeFault.BAD_CERTIFICATE: Blame.CERTIFICATE,
    HandshakeFault.REFUSED_BY_PEER: Blame.ALERT,
}


@dataclass(frozen=True, slots=True)
class Identified:
    """A TLS connection whose far end has proved to be the identity asked for.

    Its session must be entered before anything is waited for (see `IdentityStore.judge`).
    """

    tls: TlsConnection
    peer: Peer
    target: str

    @property
    def leaf(self) -> Leaf:
        """The far end's."""
        return self.peer.leaf


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to look for the far end, and the TLS words to say to it."""

    endpoints: tuple[Address, ...]
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    takes_tls_1_2: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for one address to accept, and for its handshake."""

    connect: float
    handshake: float


OnFailure = Callable[[FailedAttempt], None]


class Judge(Protocol):
    """Says who is at the far end of a finished handshake: `IdentityStore.judge`."""

    def __call__(self, tls: TlsConnection, identity: Identity, now: datetime) -> Peer:
        """Judge the far end; raises LeafError."""


async def connect_plain(
    resolver: Resolver, address: Address, on_failure: OnFailure, *, within: float, first: bytes = b""
) -> tuple[socket.socket, str]:
    """Connect to the own service; returns the socket and where it leads. Raises NoUpstream.

    `first` is what is to be said before anything else, no more than any send buffer takes.
    """
    attempt = _Attempt(address, on_failure)
    for target in await attempt.resolve(resolver, within):
        sock = await attempt.connect(target, within)
        if sock is not None and (not first or attempt.said(sock, target, first)):
            return sock, str(target)
    raise NoUpstream(attempt.failures)


class Dialer:
    """Opens identified connections to one destination and remembers which endpoints failed lately."""

    def __init__(
        self,
        destination: Destination,
        patience: Patience,
        resolver: Resolver,
        sweeper: Sweeper,
        *,
        wall: Wall,
        judge: Judge,
        turnstile: Turnstile | None = None,
    ) -> None:
        self._destination = destination
        self._turnstile = turnstile
        self._patience = patience
        self._resolver = resolver
        self._sweeper = sweeper
        self._wall = wall
        self._judge = judge
        self._failed_at: dict[Address, float] = {}

    def __repr__(self) -> str:
        return f"<Dialer {self._destination!r} resting={len(self._failed_at)}>"

    async def open(self, identity: Identity, to: SpiffeId, on_failure: OnFailure) -> Identified:
        """Connect as `identity` to the first endpoint that proves to be `to`.

        Endpoints are tried in turn, and each failure is told as it happens. Raises NoUpstream when none is left.
        """
        failures: list[FailedAttempt] = []
        for endpoint in attempt_order(self._destination.endpoints, self._failed_at, trio.current_time()):
            attempt = _Attempt(endpoint, on_failure)
            for target in await attempt.resolve(self._resolver, self._patience.connect):
                sock = await attempt.connect(target, self._patience.connect)
                identified = None if sock is None else await self._identify(sock, target, identity, to, attempt)
                if identified is not None:
                    self._failed_at.pop(endpoint, None)
                    return identified
            self._failed_at[endpoint] = trio.current_time()
            failures += attempt.failures
        raise NoUpstream(failures)

    async def _identify(
        self, sock: socket.socket, target: Target, identity: Identity, to: SpiffeId, attempt: _Attempt
    ) -> Identified | None:
        to_whom = self._destination
        context = identity.contexts.client(to_whom.alpn, takes_tls_1_2=to_whom.takes_tls_1_2)
        try:
            tls = TlsConnection(sock, context, server_side=False, server_name=to_whom.server_name)
            await tls.handshake(self._sweeper, within=self._patience.handshake, turnstile=self._turnstile)
            peer = self._judge(tls, identity, self._wall())
            if peer.leaf.id == to:
                return Identified(tls, peer, str(target))
            attempt.failed(target, Phase.IDENTITY, f"the far end is {peer.leaf.id}, only {to} is accepted")
        except HandshakeError as error:
            if error.fault is HandshakeFault.TIMEOUT:
                detail = f"no answer within {self._patience.handshake:g} s"
                attempt.failed(target, Phase.HANDSHAKE, detail, timed_out=True)
            else:
                attempt.failed(
                    target, Phase.HANDSHAKE, f"{error.fault}: {error.detail}", blame=_BLAMES.get(error.fault)
                )
                await linger(sock)  # our alert should arrive
        except LeafError as error:
            attempt.failed(target, Phase.IDENTITY, f"{error.fault}: {error.detail}")
        except BaseException:
            reset(sock)
            raise
        reset(sock)
        return None


class _Attempt:
    """One endpoint being tried: carries out a step, and turns its failure into words."""

    def __init__(self, endpoint: Address, on_failure: OnFailure) -> None:
        self._endpoint = endpoint
        self._on_failure = on_failure
        self.failures: list[FailedAttempt] = []

    async def resolve(self, resolver: Resolver, within: float) -> tuple[Target, ...]:
        try:
            return await resolver.resolve(self._endpoint, within=within)
        except ResolveError as error:
            self.failed(None, Phase.RESOLVE, str(error), timed_out=error.timed_out)
            return ()

    async def connect(self, target: Target, within: float) -> socket.socket | None:
        try:
            return await connect(target, within=within)
        except trio.TooSlowError:
            self.failed(target, Phase.CONNECT, f"no answer within {within:g} s", timed_out=True)
        except OSError as error:
            self.failed(target, Phase.CONNECT, error.strerror or str(error))
        return None

    def said(self, sock: socket.socket, target: Target, first: bytes) -> bool:
        """Say the first bytes of a new connection, at once; returns whether it took them, else it is closed."""
        try:
            if sock.send(first) == len(first):
                return True
            detail = "it takes no byte"
        except OSError as error:
            detail = error.strerror or str(error)
        reset(sock)
        self.failed(target, Phase.CONNECT, detail)
        return False

    def failed(
        self,
        target: Target | None,
        phase: Phase,
        detail: str,
        *,
        timed_out: bool = False,
        blame: Blame | None = None,
    ) -> None:
        named, tried = str(self._endpoint), str(target or self._endpoint)
        failure = FailedAttempt(named if named == tried else f"{named} ({tried})", phase, detail, timed_out, blame)
        self.failures.append(failure)
        self._on_failure(failure)
