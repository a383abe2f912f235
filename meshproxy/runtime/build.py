"""The house: everything made, bound and started in the order that leaves nothing half done when one of it fails."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.admin.server import AdminServer
from meshproxy.identity.store import IdentityStore
from meshproxy.inbound.accept import Services
from meshproxy.runtime.drain import serve_until_drained
from meshproxy.runtime.equip import Workshop
from meshproxy.runtime.reload import Reloader
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.stations import Stations
from meshproxy.runtime.views import Views
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.readiness import make_readiness
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    import socket

    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import RuntimeSettings
    from meshproxy.telemetry.access import AccessLog
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.telemetry.writer import LogWriter
    from meshproxy.wire.address import Address


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
    settings, log = configuration.settings, telling.log
    identity = IdentityStore(settings.identity, wall=wall_clock, log=log, metrics=telling.metrics)
    identity.load_first()
    engine, sweeper = make_readiness(), Sweeper()
    services = Services(
        relay=Relay(engine, Buffers(), sweeper, wall_clock),
        resolver=Resolver(),
        identity=identity,
        recorder=Recorder(telling.metrics, log, telling.access, trio.current_time),
    )
    stations = Stations(Workshop(services, sweeper).equip, services.recorder, wall_clock)
    with ExitStack() as sockets:

        def listen(address: Address) -> socket.socket:
            listener = bind(address)
            sockets.callback(close_listener, listener)
            return listener

        # Everything is bound before anything runs: an address in use leaves nothing half started.
        admin = settings.admin
        admin_socket = listen(admin.listen)
        public_socket = listen(admin.public_listen) if admin.public_listen else None
        sockets.callback(stations.close_all)
        stations.bind_all(configuration)
        reloader = Reloader(Path(file), configuration, stations, wall=wall_clock, log=log, metrics=telling.metrics)
        views = Views(file, stations, services, reloader, telling.writer)
        stopping = trio.Event()

        def begin_drain() -> RuntimeSettings:
            views.phase.draining = True
            reloader.stop()
            return reloader.configuration.settings.runtime

        nothing_cut = False  # what remains true when a second signal cancels the house
        async with trio.open_nursery() as house:

            def reload() -> None:
                identity.look_now()
                reloader.look_now()

            await house.start(engine.run)
            await house.start(sweeper.run)
            await house.start(follow_signals, stopping, reload, house.cancel_scope.cancel, log)
            house.start_soon(identity.watch)
            house.start_soon(reloader.watch)
            house.start_soon(reloader.follow_grants)
            actions = views.actions(on_reload=identity.look_now)
            house.start_soon(AdminServer(admin_socket, admin.listen, views.all(), actions, check_host=True).run)
            if public_socket is not None and admin.public_listen is not None:
                public = AdminServer(public_socket, admin.public_listen, views.public(), {}, check_host=False)
                house.start_soon(public.run)
            _announce(log, file, stations, admin_socket)
            _warn_of_expired_grants(log, configuration)
            # What was made to start will live as long as the process; the collector need not walk it again.
            gc.collect()
            gc.freeze()
            nothing_cut = await serve_until_drained(stations, stopping, begin_drain)
            house.cancel_scope.cancel()
        log.info("stopped", nothing_cut=nothing_cut)
        return nothing_cut


def _announce(log: Logger, file: str, stations: Stations, admin: socket.socket) -> None:
    log.info(
        "started",
        file=file,
        admin=str(bound_address(admin)),
        listeners={station.settings.name: str(station.acceptor.post.address) for station in stations},
    )


def _warn_of_expired_grants(log: Logger, configuration: Configuration) -> None:
    policies = {policy.file: policy for policy in configuration.policies.values()}
    for policy in policies.values():
        for rule in policy.expired(wall_clock()):
            log.warning("grant_expired", rule=rule.name, policy=f"{policy.file}:{rule.line}", expired=str(rule.expires))
