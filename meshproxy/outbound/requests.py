"""What an outbound HTTP connection lives through: each request goes to one identity, over a connection that rests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.http.kept import Memory
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Grant, Terms
from meshproxy.inbound.accept import Taskless
from meshproxy.inbound.edges import enter_outbound
from meshproxy.inbound.machinery import clock
from meshproxy.inbound.requests import IDS, Conversation, TasklessConversation, head_limits
from meshproxy.outbound.caller import is_caller_allowed
from meshproxy.upstream.pool import NEVER
from meshproxy.wire.channel import PlainChannel
from meshproxy.wire.relay import Term

if TYPE_CHECKING:
    from meshproxy.http.head import RequestHead
    from meshproxy.inbound.accept import Stay
    from meshproxy.inbound.requests import Way
    from meshproxy.inbound.visit import Services
    from meshproxy.settings.schema import Outbound


_GRANTED: Final = Grant()


def grant_all(_head: RequestHead, _request_id: bytes) -> Grant:
    """Grant whatever is acceptable HTTP: who may call what is the far side's to say, and it knows us by our name."""
    return _GRANTED


class OutboundRequestsHandler(Taskless):
    """Handles the connections of one outbound HTTP listener."""

    def __init__(self, settings: Outbound, services: Services, way: Way) -> None:
        self._settings = settings
        self._services = services
        self._way = way
        limits, host = head_limits(settings.limits), None if settings.host is None else settings.host.encode("ascii")
        sampling = None if services.tracer is None else services.tracer.sampling
        bounds = settings.limits.max_body_bytes, settings.limits.max_pipelined
        self._terms = Terms(limits, grant_all, IDS, host, Memory(limits, host), sampling, *bounds)
        self._term = Term(settings.limits.idle_timeout, NEVER, settings.limits.max_connection_age)

    def __repr__(self) -> str:
        return f"<OutboundRequestsHandler {self._settings.name} -> {self._settings.to}>"

    def begin(self, stay: Stay) -> None:
        """Begin to serve one connection."""
        settings, services, visit = self._settings, self._services, stay.visit
        if not is_caller_allowed(stay.sock, settings, visit, services.recorder):
            stay.leave()
            return
        enter_outbound(visit, settings, services)
        TasklessConversation(
            PlainChannel(stay.sock, services.relay.engine, services.relay.buffers),
            HttpRelay(self._terms, clock()),
            Conversation(self._way, services, visit),
            self._term,
            stay,
        ).begin()
