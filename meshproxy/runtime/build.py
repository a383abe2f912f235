"""The wiring: the one place that knows every room."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from meshproxy.admin.server import AdminServer
from meshproxy.identity.store import IdentityStore
from meshproxy.inbound.accept import Acceptor, Handler, Post, Services
from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.deadlines import Patience as HttpPatience
from meshproxy.inbound.driver import Machinery
from meshproxy.inbound.forward import InboundHandler
from meshproxy.inbound.requests import HTTP_1_1, RequestsHandler, head_limits
from meshproxy.outbound.forward import OutboundHandler
from meshproxy.outbound.requests import OutboundRequestsHandler
from meshproxy.runtime.drain import Hooks, Listeners, serve_until_drained
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.views import Station, Views
from meshproxy.settings.schema import Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.record import Recorder
from meshproxy.upstream.connections import MeshConnections, ServiceConnections, Wiring
from meshproxy.upstream.endpoint import Destination, Dialer, Patience
from meshproxy.upstream.pool import Pool
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.readiness import make_readiness
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    import socket

    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Inbound, Limits, Outbound
    from meshproxy.telemetry.access import AccessLog
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.telemetry.writer import LogWriter
    from meshproxy.wire.address import Address

# Anybody on this machine may talk to a unix listener that checks who calls; without a check only our own group may.
_MODE_CHECKED = 0o666
_MODE_GROUP = 0o660

# How long an idle HTTP connection may still ask when a drain has begun (seconds): longer than the other side's pool
# rests, so that its next request is answered with `Connection: close` instead of meeting a closed connection.
_IDLE_GRACE = 4.0

# Resting upstream connections per listener: more than one keep-alive load needs, few enough to forget.
_MOST_RESTING = 1024


@dataclass(frozen=True, slots=True)
class Telling:
    """Where everything that happens is told."""

    log: Logger
    access: AccessLog
    writer: LogWriter
    metrics: Metrics


def wall_clock() -> datetime:
    """Return the time certificates go by."""
    return datetime.now(UTC)


async def run_sidecar(file: str, configuration: Configuration, telling: Telling) -> bool:
    """Run one sidecar until a signal ends it. Returns whether nothing had to be cut.

    Raises FaultyInput for an identity that cannot be used and cannot heal, StartError when a listener cannot be bound.
    """
    settings = configuration.settings
    identity = IdentityStore(settings.identity, wall=wall_clock, log=telling.log, metrics=telling.metrics)
    identity.load_first()
    engine = make_readiness()
    services = Services(
        relay=Relay(engine, Buffers(), wall_clock),
        resolver=Resolver(),
        identity=identity,
        recorder=Recorder(telling.metrics, telling.log, telling.access, trio.current_time),
    )
    parts = Parts(configuration, services, Sweeper())
    with ExitStack() as sockets:

        def listen(address: Address, mode: int = _MODE_GROUP) -> socket.socket:
            listener = bind(address, mode=mode)
            sockets.callback(close_listener, listener)
            return listener

        # Everything is bound before anything runs: an address in use leaves nothing half started.
        admin = settings.admin
        admin_socket = listen(admin.listen)
        public_socket = listen(admin.public_listen) if admin.public_listen else None
        stations = [
            *(_inbound(each, parts, listen(each.listen)) for each in settings.inbound),
            *(
                _outbound(each, parts, listen(each.listen, _MODE_CHECKED if each.allow_uids else _MODE_GROUP))
                for each in settings.outbound
            ),
        ]
        views = Views(file, settings, stations, services, telling.writer)
        stopping = trio.Event()

        grace = min(_IDLE_GRACE, settings.runtime.drain_timeout / 2)

        def begin_drain() -> None:
            views.phase.draining = True
            services.inbound.drain(grace)

        def inbound_idle() -> None:
            services.outbound.drain(grace)

        nothing_cut = False  # what remains true when a second signal cancels the house
        async with trio.open_nursery() as house:
            await house.start(engine.run)
            await house.start(parts.sweeper.run)
            await house.start(follow_signals, stopping, identity.look_now, house.cancel_scope.cancel, telling.log)
            house.start_soon(identity.watch)
            house.start_soon(AdminServer(admin_socket, admin.listen, views.all(), check_host=True).run)
            if public_socket is not None and admin.public_listen is not None:
                house.start_soon(AdminServer(public_socket, admin.public_listen, views.public(), check_host=False).run)
            _announce(telling.log, file, stations, admin_socket)
            _warn_of_expired_grants(telling.log, stations)
            # What was made to start will live as long as the process; the collector need not walk it again.
            gc.collect()
            gc.freeze()
            by_direction = Listeners(
                inbound=[s.acceptor for s in stations if s.policy is not None],
                outbound=[s.acceptor for s in stations if s.policy is None],
            )
            nothing_cut = await serve_until_drained(
                by_direction, settings.runtime, stopping, Hooks(begin_drain, inbound_idle)
            )
            house.cancel_scope.cancel()
        telling.log.info("stopped", nothing_cut=nothing_cut)
        return nothing_cut


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handlers of all listeners are made from."""

    configuration: Configuration
    services: Services
    sweeper: Sweeper


def _inbound(settings: Inbound, parts: Parts, listener: socket.socket) -> Station:
    services = parts.services
    policy = Snapshot(parts.configuration.policies[settings.name])
    authorizer = Authorizer(settings, policy, services.recorder)
    handler: Handler
    if settings.protocol is Protocol.HTTP:
        pool, wiring = _pool(settings.limits, parts), Wiring(services.relay, head_limits(settings.limits))
        upstreams = ServiceConnections(
            settings.forward, pool, wiring, services.resolver, within=settings.limits.connect_timeout
        )
        handler = RequestsHandler(settings, authorizer, services, _machinery(settings.limits, parts), upstreams)
    else:
        handler = InboundHandler(settings, authorizer, services)
    post = Post(settings.name, "inbound", settings.limits.max_connections, listener, bound_address(listener))
    return Station(settings, Acceptor(post, services.recorder, handler), policy)


def _outbound(settings: Outbound, parts: Parts, listener: socket.socket) -> Station:
    limits, services = settings.limits, parts.services
    http = settings.protocol is Protocol.HTTP
    dialer = Dialer(
        Destination(settings.endpoints, settings.server_name, HTTP_1_1 if http else settings.alpn),
        Patience(limits.connect_timeout, limits.handshake_timeout),
        services.resolver,
        services.relay.wall,
    )
    handler: Handler
    if http:
        pool, wiring = _pool(limits, parts), Wiring(services.relay, head_limits(limits))
        upstreams = MeshConnections(settings.to, dialer, pool, wiring, services.identity)
        handler = OutboundRequestsHandler(settings, services, _machinery(limits, parts), upstreams)
    else:
        handler = OutboundHandler(settings, dialer, services)
    post = Post(settings.name, "outbound", limits.max_connections, listener, bound_address(listener))
    return Station(settings, Acceptor(post, services.recorder, handler))


def _pool(limits: Limits, parts: Parts) -> Pool:
    engine = parts.services.relay.engine
    return Pool(engine, parts.sweeper, idle=limits.pool_idle, most=_MOST_RESTING if limits.pool_idle else 0)


def _machinery(limits: Limits, parts: Parts) -> Machinery:
    return Machinery(
        parts.services.relay.engine,
        parts.sweeper,
        HttpPatience(limits.head_timeout, limits.idle_timeout, limits.response_timeout, limits.body_min_rate or 0),
    )


def _announce(log: Logger, file: str, stations: list[Station], admin: socket.socket) -> None:
    log.info(
        "started",
        file=file,
        admin=str(bound_address(admin)),
        listeners={station.settings.name: str(station.acceptor.post.address) for station in stations},
    )


def _warn_of_expired_grants(log: Logger, stations: list[Station]) -> None:
    policies = {station.policy.value.file: station.policy.value for station in stations if station.policy is not None}
    for policy in policies.values():
        for rule in policy.expired(wall_clock()):
            log.warning("grant_expired", rule=rule.name, policy=f"{policy.file}:{rule.line}", expired=str(rule.expires))
