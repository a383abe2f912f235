"""What an inbound connection lives through: handshake, leaf, allow-list, own service, relay.

The order is the security of it: nobody is connected to the service before the allow-list has been asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ca.svid import Leaf, LeafError
from meshproxy.identity.peer import judge_peer
from meshproxy.identity.store import NotReady
from meshproxy.upstream.attempt import FailedAttempt, NoUpstream
from meshproxy.upstream.endpoint import connect_plain
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.ends import ConnectionEnd, End
from meshproxy.wire.relay import Term
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault

if TYPE_CHECKING:
    import socket

    from meshproxy.identity.store import Identity
    from meshproxy.inbound.accept import Services, Visit
    from meshproxy.inbound.authorize import Authorizer
    from meshproxy.policy.decide import Permit
    from meshproxy.settings.schema import Inbound


class InboundHandler:
    """Handles the connections of one inbound listener."""

    def __init__(self, settings: Inbound, authorizer: Authorizer, services: Services) -> None:
        self._settings = settings
        self._authorizer = authorizer
        self._services = services

    def __repr__(self) -> str:
        return f"<InboundHandler {self._settings.name} -> {self._settings.forward}>"

    async def __call__(self, sock: socket.socket, visit: Visit) -> None:
        """Serve one connection to its end."""
        try:
            identity = self._services.identity.usable()
        except NotReady as reason:
            reset(sock)
            self._services.recorder.refused(
                visit.listener, "identity_not_ready", peer=visit.peer, remedy=f"{reason}; {reason.remedy}"
            )
            return
        tls = TlsConnection(sock, identity.contexts.server, server_side=True)
        leaf = await self._authenticate(tls, identity, visit)
        if leaf is None:
            return
        permit = self._authorizer.ask(visit, leaf, home=identity.leaf.id.trust_domain, now=self._services.relay.wall())
        if permit is None:
            # No close_notify and no byte: an orderly end could be taken for an empty answer.
            reset(sock)
            visit.end = ConnectionEnd(End.DENIED, None, visit.reason)
            return
        await self._forward(permit, tls, leaf, identity, visit)

    async def _authenticate(self, tls: TlsConnection, identity: Identity, visit: Visit) -> Leaf | None:
        recorder, within = self._services.recorder, self._settings.limits.handshake_timeout
        try:
            with trio.fail_after(within):
                await tls.handshake()
            return judge_peer(tls, home=identity.leaf.id.trust_domain, now=self._services.relay.wall())
        except trio.TooSlowError:
            recorder.handshake_failed(
                visit.listener, HandshakeFault.TIMEOUT, peer=visit.peer, detail=f"no handshake within {within:g} s"
            )
            reset(tls.sock)
        except HandshakeError as error:
            recorder.handshake_failed(visit.listener, error.fault, peer=visit.peer, detail=error.detail)
            await linger(tls.sock)  # the alert tells the caller why; RST would overtake it
        except LeafError as error:
            recorder.handshake_failed(
                visit.listener, error.fault, peer=visit.peer, detail=error.detail, claimed=error.claimed
            )
            reset(tls.sock)
        return None

    async def _forward(
        self,
        permit: Permit,  # noqa: ARG002 - a proof, not a value: without one this cannot be called
        tls: TlsConnection,
        leaf: Leaf,
        identity: Identity,
        visit: Visit,
    ) -> None:
        """Relay between the caller and the service."""
        settings, services = self._settings, self._services

        def tell(failure: FailedAttempt) -> None:
            services.recorder.upstream_failed(
                visit.listener, failure.phase, endpoint=failure.endpoint, detail=failure.detail
            )

        visit.upstream = str(settings.forward)
        try:
            plain, _ = await connect_plain(
                services.resolver, settings.forward, tell, within=settings.limits.connect_timeout
            )
        except NoUpstream as failed:
            reset(tls.sock)
            visit.end = ConnectionEnd(End.FAILED, None, str(failed))
            return
        visit.end = await services.relay.run(
            plain,
            tls,
            peer_eof=settings.peer_eof,
            term=Term(settings.limits.idle_timeout, min(leaf.not_after, identity.material.not_after)),
            traffic=visit.traffic,
        )
