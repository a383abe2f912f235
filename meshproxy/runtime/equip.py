"""What a listener's settings make of it: the handlers, pools and judges wired together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.crowd import Crowd
from meshproxy.inbound.deadlines import Patience as HttpPatience
from meshproxy.inbound.forward import InboundHandler
from meshproxy.inbound.ledger import Ledger
from meshproxy.inbound.live import Live
from meshproxy.inbound.machinery import Machinery
from meshproxy.inbound.requests import RequestsHandler, Way, head_limits
from meshproxy.limits.flight import Flight
from meshproxy.outbound.forward import OutboundHandler
from meshproxy.outbound.requests import OutboundRequestsHandler
from meshproxy.runtime.stations import Equipment
from meshproxy.settings.schema import Inbound, Protocol, TlsVersion
from meshproxy.snapshot import Snapshot
from meshproxy.upstream.connections import MeshConnections, ServiceConnections, Wiring
from meshproxy.upstream.endpoint import Destination, Dialer, Patience
from meshproxy.upstream.pool import Pool, UpstreamConnection
from meshproxy.upstream.queue import Queue

if TYPE_CHECKING:
    from meshproxy.inbound.machinery import Gate
    from meshproxy.inbound.visit import Services
    from meshproxy.runtime.auditing import Auditing
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Limits, Outbound
    from meshproxy.wire.sweep import Sweeper

# Resting upstream connections per listener: more than one keep-alive load needs, few enough to forget.
_MOST_RESTING = 1024

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes equipment; `previous` lends what outlives a change of settings: the open connections and the judge."""

    services: Services
    sweeper: Sweeper
    auditing: Auditing | None = None
    flight: Flight = field(default_factory=Flight)

    def equip(
        self, settings: Inbound | Outbound, configuration: Configuration, previous: Equipment | None
    ) -> Equipment:
        """Return what handles the connections of a listener."""
        live = Live() if previous is None else previous.live
        if isinstance(settings, Inbound):
            authorizer = None if previous is None else previous.authorizer
            if authorizer is None:
                policy, recorder = configuration.policies[settings.name], self.services.recorder
                witness = None if self.auditing is None else self.auditing.witness(settings, policy, recorder)
                authorizer = Authorizer(settings, Snapshot(policy), recorder, witness)
            crowd = None if previous is None else previous.crowd
            if crowd is None:
                crowd = Crowd.of(settings.limits)
            crowd.adapt(settings.limits)
            return self._inbound(settings, authorizer, live, crowd)
        return self._outbound(settings, live)

    def _inbound(self, settings: Inbound, authorizer: Authorizer, live: Live, crowd: Crowd) -> Equipment:
        services, limits = self.services, settings.limits
        gate = None if self.auditing is None else self.auditing.gate(authorizer.witness)
        if settings.protocol is Protocol.TCP:
            handle = InboundHandler(settings, authorizer, services, live, gate=gate, crowd=crowd)
            return Equipment(handle, live, authorizer, _nothing, crowd)
        pool, wiring = self._pool(limits), Wiring(services.relay, head_limits(limits), settings.name)
        upstreams = ServiceConnections(settings.forward, pool, wiring, services.resolver, within=limits.connect_timeout)
        way = Way(self._machinery(limits, gate), upstreams, live, self._ledger(settings.name))
        handler = RequestsHandler(settings, authorizer, services, way, crowd)
        return Equipment(handler, live, authorizer, pool.close_all, crowd)

    def _outbound(self, settings: Outbound, live: Live) -> Equipment:
        services, limits = self.services, settings.limits
        http = settings.protocol is Protocol.HTTP
        dialer = Dialer(
            Destination(
                settings.endpoints,
                settings.server_name,
                settings.offered_alpn,
                takes_tls_1_2=settings.min_tls is TlsVersion.TLS_1_2,
            ),
            Patience(limits.connect_timeout, limits.handshake_timeout),
            services.resolver,
            self.sweeper,
            wall=services.relay.wall,
            judge=services.identity.judge,
            turnstile=services.relay.turnstile,
        )
        if not http:
            return Equipment(OutboundHandler(settings, dialer, services), live, None, _nothing)
        pool, wiring = self._pool(limits), Wiring(services.relay, head_limits(limits), settings.name)
        upstreams = MeshConnections(settings.to, dialer, pool, wiring, services.identity)
        way = Way(self._machinery(limits), upstreams, live, self._ledger(settings.name))
        handler = OutboundRequestsHandler(settings, services, way)
        return Equipment(handler, live, None, pool.close_all)

    def _pool(self, limits: Limits) -> Pool:
        most = _MOST_RESTING if limits.pool_idle else 0
        queue = Queue[UpstreamConnection](
            most=limits.max_upstream_connections,
            longest=limits.max_upstream_queue,
            within=limits.upstream_queue_timeout,
        )
        engine = self.services.relay.engine
        return Pool(engine, self.sweeper, idle=limits.pool_idle, most=most, queue=queue, flight=self.flight)

    def _ledger(self, listener: str) -> Ledger:
        services = self.services
        return Ledger(listener, services.recorder, services.relay.engine.afterwards, services.tracer)

    def _machinery(self, limits: Limits, gate: Gate | None = None) -> Machinery:
        patience = HttpPatience(
            head=limits.head_timeout,
            idle=limits.idle_timeout,
            response=limits.response_timeout,
            body_min_rate=limits.body_min_rate or 0,
            request=limits.request_timeout or _NEVER,
            age=limits.max_connection_age or _NEVER,
        )
        return Machinery(self.services.relay.engine, self.sweeper, patience, gate)


def _nothing() -> None:
    """A listener without a pool has nothing to let go of."""
