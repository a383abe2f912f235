"""From an accepted socket to an authenticated caller: own identity, handshake, leaf. The same for TCP and HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ca.svid import LeafError
from meshproxy.identity.usable import NotReady
from meshproxy.inbound.machinery import clock
from meshproxy.limits.waiting_room import NO_PLACE
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault

if TYPE_CHECKING:
    import socket
    from datetime import datetime

    from ca import TrustDomain
    from ca.svid import Leaf
    from meshproxy.identity.own import Identity
    from meshproxy.identity.peer import Peer
    from meshproxy.inbound.visit import Services, Visit
    from meshproxy.wire.ends import ConnectionEnd


# Faults that are ours to bound: nobody waits for an alert.
_LIMITS: Final = {HandshakeFault.TIMEOUT: "handshake_timeout", HandshakeFault.CROWDED_OUT: NO_PLACE}


@dataclass(frozen=True, slots=True)
class Guest:
    """A caller that has proved who it is, on a connection that nothing was forwarded on yet."""

    tls: TlsConnection
    peer: Peer
    identity: Identity
    judged_at: datetime  # the peer, and nothing was waited for since

    @property
    def leaf(self) -> Leaf:
        """The caller's."""
        return self.peer.leaf

    @property
    def home(self) -> TrustDomain:
        """Our own trust domain."""
        return self.identity.home

    @property
    def valid_until(self) -> datetime:
        """When the first certificate of the two sides runs out."""
        return min(self.leaf.not_after, self.identity.material.not_after)

    def hang_up(self, _why: ConnectionEnd | None = None) -> None:
        """Reset the connection; idempotent. Only before it is relayed."""
        reset(self.tls.sock)


async def admit(
    sock: socket.socket, visit: Visit, services: Services, *, within: float, alpn: tuple[str, ...] = ()
) -> Guest | None:
    """Authenticate whoever has connected, within so many seconds; None when it failed, told and closed by then.

    A guest's session must be entered before anything is waited for (see `IdentityStore.judge`).
    """
    recorder = services.recorder
    try:
        identity = services.identity.usable()
    except NotReady as reason:
        reset(sock)
        remedy = f"{reason}; {reason.remedy}"
        recorder.refused(visit.listener, "identity_not_ready", peer=visit.peer, remedy=remedy)
        return None
    tls = TlsConnection(sock, identity.contexts.server(alpn), server_side=True)
    begun = clock()
    try:
        relay = services.relay
        await tls.handshake(relay.sweeper, within=within, turnstile=relay.turnstile, place=visit.place)
        recorder.shook_hands(visit.listener, clock() - begun, tls.waited)
        if visit.place is not None:
            visit.place.leave()  # no stranger any more
        now = relay.wall()
        return Guest(tls, services.identity.judge(tls, identity, now), identity, now)
    except HandshakeError as error:
        recorder.handshake_failed(visit.listener, error.fault, peer=visit.peer, detail=error.detail)
        if limit := _LIMITS.get(error.fault):
            recorder.reached(visit.listener, limit)
            reset(sock)
        else:
            await linger(sock)  # the alert tells the caller why; RST would overtake it
    except LeafError as error:
        recorder.handshake_failed(
            visit.listener, error.fault, peer=visit.peer, detail=error.detail, claimed=error.claimed
        )
        reset(sock)
    return None
