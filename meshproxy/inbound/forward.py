"""What an inbound connection lives through: handshake, leaf, allow-list, own service, relay.

The order is the security of it: nobody is connected to the service before the allow-list has been asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.inbound.admit import Guest, admit
from meshproxy.inbound.brake import wait_for_room
from meshproxy.inbound.crowd import Crowd
from meshproxy.inbound.edges import enter_inbound
from meshproxy.inbound.introduced import introduced, introduction
from meshproxy.inbound.live import Call, Live
from meshproxy.policy.decide import Outcome
from meshproxy.upstream.attempt import FailedAttempt, NoUpstream
from meshproxy.upstream.endpoint import connect_plain
from meshproxy.wire.closing import reset
from meshproxy.wire.ends import ConnectionEnd, End
from meshproxy.wire.relay import Term

if TYPE_CHECKING:
    import socket

    from meshproxy.inbound.authorize import Authorizer
    from meshproxy.inbound.machinery import Gate
    from meshproxy.inbound.visit import Services, Visit
    from meshproxy.policy.decide import Permit
    from meshproxy.settings.schema import Inbound


NOT_RECORDED = "the decision cannot be recorded: the audit log has no room"


class InboundHandler:
    """Handles the connections of one inbound listener."""

    def __init__(
        self,
        settings: Inbound,
        authorizer: Authorizer,
        services: Services,
        live: Live,
        *,
        gate: Gate | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        self._settings = settings
        self._authorizer = authorizer
        self._services = services
        self._live = live
        self._gate = gate
        self._crowd = crowd or Crowd.of(settings.limits)

    def __repr__(self) -> str:
        return f"<InboundHandler {self._settings.name} -> {self._settings.forward}>"

    async def __call__(self, sock: socket.socket, visit: Visit) -> None:
        """Serve one connection to its end."""
        settings, within, ends = self._settings, self._settings.limits.handshake_timeout, None
        if settings.accept_proxy:
            came = await introduced(sock, visit, settings, self._services.recorder)
            within, ends = came.left, came.ends
        guest = await admit(sock, visit, self._services, within=within) if within else None
        if guest is None:
            return
        first = introduction(sock, guest, ends) if settings.send_proxy else b""
        sessions = self._services.identity.sessions
        with (
            sessions.of(guest.peer, listener=visit.listener, connection=visit.id) as session,
            self._live.registered(Call(visit.id, guest.leaf.id, guest.home)) as call,
            self._crowd.counted(guest, visit, self._services.recorder) as counted,
        ):
            if counted.is_too_much:
                reset(sock)
                return
            enter_inbound(visit, self._settings, guest, self._services)
            session.ended_by(call.revoke)
            judged_at = guest.judged_at
            if self._gate is not None and await wait_for_room(self._gate):
                judged_at = self._services.relay.wall()
            permit = self._authorizer.ask(visit, guest.leaf, home=guest.home, now=judged_at)
            if permit is None:
                # No close_notify and no byte: an orderly end could be taken for an empty answer.
                reset(sock)
                denied = visit.decision == Outcome.DENY
                visit.end = ConnectionEnd(End.DENIED, None, visit.reason if denied else NOT_RECORDED)
                return
            await self._forward(permit, guest, visit, call, first)

    async def _forward(
        self,
        permit: Permit,  # noqa: ARG002 - a proof, not a value: without one this cannot be called
        guest: Guest,
        visit: Visit,
        call: Call,
        first: bytes,
    ) -> None:
        """Relay between the caller and the service, which hears `first`, until `call` is cut at the latest."""
        settings, services = self._settings, self._services

        def tell(failure: FailedAttempt) -> None:
            services.recorder.upstream_failed(
                visit.listener, failure.phase, endpoint=failure.endpoint, detail=failure.detail
            )

        visit.upstream = str(settings.forward)
        call.ended_by(guest.hang_up)  # the caller is told at once, however long the service takes to accept
        try:
            plain, _ = await connect_plain(
                services.resolver, settings.forward, tell, within=settings.limits.connect_timeout, first=first
            )
        except NoUpstream as failed:
            guest.hang_up()
            visit.end = call.reason if call.cut else ConnectionEnd(End.FAILED, None, str(failed))
            return
        if call.cut:
            reset(plain)
            visit.end = call.reason
            return
        visit.end = await services.relay.run(
            plain,
            guest.tls,
            peer_eof=settings.peer_eof,
            term=Term(settings.limits.idle_timeout, guest.valid_until, settings.limits.max_connection_age),
            traffic=visit.traffic,
            on_cut=call.ended_by,
        )
