"""What an outbound connection lives through: the local caller, an identified far end, relay."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from meshproxy.identity.usable import NotReady
from meshproxy.inbound.edges import complete_once, enter_outbound
from meshproxy.outbound.caller import is_caller_allowed
from meshproxy.upstream.attempt import FailedAttempt, NoUpstream
from meshproxy.wire.ends import ConnectionEnd, End, Side
from meshproxy.wire.relay import Term

if TYPE_CHECKING:
    import socket

    from meshproxy.inbound.visit import Services, Visit
    from meshproxy.settings.schema import Outbound
    from meshproxy.upstream.endpoint import Dialer
    from meshproxy.wire.relay import Cut


class OutboundHandler:
    """Handles the connections of one outbound listener."""

    def __init__(self, settings: Outbound, dialer: Dialer, services: Services) -> None:
        self._settings = settings
        self._dialer = dialer
        self._services = services

    def __repr__(self) -> str:
        return f"<OutboundHandler {self._settings.name} -> {self._settings.to}>"

    async def __call__(self, sock: socket.socket, visit: Visit) -> None:
        """Serve one connection to its end; every end but a clean one resets the local caller."""
        settings, services = self._settings, self._services
        if not is_caller_allowed(sock, settings, visit, services.recorder):
            return
        enter_outbound(visit, settings, services)
        try:
            identity = services.identity.usable()
        except NotReady as reason:
            services.recorder.refused(
                visit.listener, "identity_not_ready", peer=visit.peer, remedy=f"{reason}; {reason.remedy}"
            )
            return

        def tell(failure: FailedAttempt) -> None:
            services.recorder.upstream_failed(
                visit.listener, failure.phase, endpoint=failure.endpoint, detail=failure.detail
            )

        to = complete_once(settings.to, identity.home)
        visit.upstream = str(to)
        try:
            far = await self._dialer.open(identity, to, tell)
        except NoUpstream as failed:
            visit.end = ConnectionEnd(End.FAILED, None, str(failed))
            return
        visit.upstream, visit.upstream_id = far.target, str(far.leaf.id)
        valid_until = min(far.leaf.not_after, identity.material.not_after)
        with services.identity.sessions.of(far.peer, listener=visit.listener, connection=visit.id) as session:
            ended = await services.relay.run(
                sock,
                far.tls,
                peer_eof=settings.peer_eof,
                term=Term(settings.limits.idle_timeout, valid_until, settings.limits.max_connection_age),
                traffic=visit.traffic,
                on_cut=lambda cut: session.ended_by(partial(_revoke, cut)),
            )
            visit.end = refusal_in_words(ended, received=visit.traffic.to_plain)


def _revoke(cut: Cut, why: str) -> None:
    cut(ConnectionEnd(End.REVOKED, Side.TLS, why))


def refusal_in_words(ended: ConnectionEnd, *, received: int) -> ConnectionEnd:
    """Name what a far end means that resets before its first byte.

    In TLS 1.3 our handshake succeeds before the far side has judged us; a sidecar that refuses us then sends RST.
    """
    if ended.end is End.RESET and ended.side is Side.TLS and not received:
        return ConnectionEnd(End.REFUSED, Side.TLS, "closed before any byte: probably refused by its allow-list")
    return ended
