"""HTTP mode's upstream connections: from the pool if one rests there, else dialled, plain or identified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ca.spiffe_id import complete
from meshproxy.errors import Failure
from meshproxy.http.codec import ResponseReader
from meshproxy.identity.usable import NotReady
from meshproxy.upstream.attempt import Blame, NoUpstream, Phase
from meshproxy.upstream.endpoint import connect_plain
from meshproxy.upstream.pool import Pool, UpstreamConnection
from meshproxy.upstream.queue import NoUpstreamConnection
from meshproxy.wire.channel import PlainChannel, TlsChannel

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from meshproxy.http.head import HeadLimits
    from meshproxy.identity.own import Identity
    from meshproxy.identity.sessions import Sessions
    from meshproxy.identity.store import IdentityStore
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.endpoint import Dialer, Identified, OnFailure
    from meshproxy.wire.address import Address
    from meshproxy.wire.dial import Resolver
    from meshproxy.wire.relay import Relay

# What a caller is told of the last endpoint tried; the log has them all.
_FAILURES = {
    Phase.RESOLVE: Failure.RESOLVE,
    Phase.CONNECT: Failure.CONNECT_REFUSED,
    Phase.HANDSHAKE: Failure.TLS,
    Phase.IDENTITY: Failure.IDENTITY,
}
# A connection that is accepted and then met with silence was not opened in time either (RFC 9209 section 2.3.6).
_WAITED_IN_VAIN = {
    Phase.RESOLVE: Failure.RESOLVE_TIMEOUT,
    Phase.CONNECT: Failure.CONNECT_TIMEOUT,
    Phase.HANDSHAKE: Failure.CONNECT_TIMEOUT,
}
_BY_BLAME = {Blame.CERTIFICATE: Failure.CERTIFICATE, Blame.ALERT: Failure.TLS_ALERT}


@dataclass(frozen=True, slots=True)
class Wiring:
    """What turns a connected socket into an upstream connection."""

    relay: Relay
    limits: HeadLimits
    listener: str

    def plain(self, sock: socket.socket, target: str) -> UpstreamConnection:
        """Wrap a plain socket."""
        channel = PlainChannel(sock, self.relay.engine, self.relay.buffers)
        return UpstreamConnection(channel, ResponseReader(self.limits), target)

    def identified(
        self, far: Identified, identity: Identity, generation: int, sessions: Sessions
    ) -> UpstreamConnection:
        """Wrap an identified TLS connection, opened as `identity`, which is of this generation."""
        valid_until = min(far.leaf.not_after, identity.material.not_after)
        return UpstreamConnection(
            TlsChannel(far.tls, self.relay.engine, self.relay.buffers),
            ResponseReader(self.limits),
            far.target,
            identity=str(far.leaf.id),
            session=sessions.of(far.peer, listener=self.listener, connection=far.target),
            generation=generation,
            valid_until=valid_until,
            ends_at=trio.current_time() + (valid_until - self.relay.wall()).total_seconds(),
        )


class ServiceConnections:
    """Connections to the own service, in plain."""

    def __init__(
        self, address: Address, pool: Pool, wiring: Wiring, resolver: Resolver, *, within: float, first: bytes = b""
    ) -> None:
        """Connect to `address`, waiting so many seconds; `first` is what every connection begins with."""
        self.pool = pool
        self._address = address
        self._wiring = wiring
        self._resolver = resolver
        self._within = within
        self._first = first

    def beginning_with(self, first: bytes) -> ServiceConnections:
        """Return the same for one caller alone, who is introduced on each of them: nobody else may use those."""
        return ServiceConnections(
            self._address, self.pool.of_one(), self._wiring, self._resolver, within=self._within, first=first
        )

    def __repr__(self) -> str:
        return f"<ServiceConnections {self._address} {self.pool!r}>"

    @property
    def generation(self) -> int:
        """See `Upstreams`; in plain nobody says who he is."""
        return 0

    def resting(self) -> UpstreamConnection | None:
        """See `Upstreams`."""
        return self.pool.take(generation=0)

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        """See `Upstreams`."""
        try:
            sock, target = await connect_plain(
                self._resolver, self._address, on_failure, within=self._within, first=self._first
            )
        except NoUpstream as failed:
            raise NoUpstreamConnection(failure_of(failed.failures), str(failed)) from failed
        return self._wiring.plain(sock, target)


class MeshConnections:
    """Connections to another service's sidecar: identified, as whoever we are at the time."""

    def __init__(self, to: str, dialer: Dialer, pool: Pool, wiring: Wiring, identity: IdentityStore) -> None:
        """Connect through `dialer` to the identity `to` only, short or full."""
        self.pool = pool
        self._to = to
        self._dialer = dialer
        self._wiring = wiring
        self._identity = identity

    def __repr__(self) -> str:
        return f"<MeshConnections {self._to} {self.pool!r}>"

    @property
    def generation(self) -> int:
        """See `Upstreams`."""
        return self._identity.generation

    def resting(self) -> UpstreamConnection | None:
        """See `Upstreams`; a connection made with an identity that was replaced since is not used again."""
        return self.pool.take(generation=self._identity.generation)

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        """See `Upstreams`."""
        try:
            identity = self._identity.usable()
        except NotReady as reason:
            raise NoUpstreamConnection(Failure.NOT_READY, f"{reason}; {reason.remedy}") from reason
        to = complete(self._to, identity.home)
        generation = self._identity.generation
        try:
            far = await self._dialer.open(identity, to, on_failure)
        except NoUpstream as failed:
            raise NoUpstreamConnection(failure_of(failed.failures), str(failed)) from failed
        return self._wiring.identified(far, identity, generation, self._identity.sessions)


def failure_of(failures: Sequence[FailedAttempt]) -> Failure:
    """Return what the caller is told: the phase the last attempt failed in, or the wait if it was a wait."""
    last = failures[-1]
    if last.timed_out and last.phase in _WAITED_IN_VAIN:
        return _WAITED_IN_VAIN[last.phase]
    if last.blame is not None:
        return _BY_BLAME[last.blame]
    return _FAILURES[last.phase]
