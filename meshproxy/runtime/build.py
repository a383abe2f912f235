"""The house: everything made, bound and started in the order that leaves nothing half done when one of it fails."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.identity.store import IdentityStore
from meshproxy.inbound.accept import Services
from meshproxy.runtime.doors import OwnDoors
from meshproxy.runtime.drain import serve_until_drained
from meshproxy.runtime.equip import Workshop
from meshproxy.runtime.pages import reload_action
from meshproxy.runtime.reception import Reception
from meshproxy.runtime.reload import Reloader
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.stations import Stations
from meshproxy.runtime.telling import announce, wall_clock
from meshproxy.runtime.views import Views
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.readiness import make_readiness
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    from meshproxy.runtime.doors import Doors
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import RuntimeSettings, Settings
    from meshproxy.wire.readiness import Readiness


@dataclass(frozen=True, slots=True)
class House:
    """What serves, wired and closed: nothing runs yet, and nothing is bound."""

    identity: IdentityStore
    engine: Readiness
    sweeper: Sweeper
    services: Services
    stations: Stations

    @classmethod
    def furnish(cls, settings: Settings, telling: Telling, doors: Doors) -> House:
        """Wire everything; raises FaultyInput for an identity that cannot be used and cannot heal."""
        log, metrics = telling.log, telling.metrics
        identity = IdentityStore(settings.identity, wall=wall_clock, log=log, metrics=metrics)
        identity.load_first()
        engine, sweeper = make_readiness(), Sweeper()
        services = Services(
            relay=Relay(engine, Buffers(), sweeper, wall_clock, time.time),
            resolver=Resolver(),
            identity=identity,
            recorder=Recorder(metrics, log, telling.access, trio.current_time),
        )
        stations = Stations(Workshop(services, sweeper).equip, services.recorder, wall_clock, doors)
        return cls(identity, engine, sweeper, services, stations)

    async def live_in(self, nursery: trio.Nursery) -> None:
        """Start what everything else stands on."""
        await nursery.start(self.engine.run)
        await nursery.start(self.sweeper.run)
        nursery.start_soon(self.identity.watch)
        # What was made to start will live as long as the process; the collector need not walk it again.
        gc.collect()
        gc.freeze()


async def run_sidecar(file: str, configuration: Configuration, telling: Telling) -> bool:
    """Run one sidecar until a signal ends it. Returns whether nothing had to be cut.

    Raises FaultyInput for an identity that cannot be used and cannot heal, StartError when a listener cannot be bound.
    """
    settings, log = configuration.settings, telling.log
    house = House.furnish(settings, telling, OwnDoors())
    identity, stations = house.identity, house.stations
    with ExitStack() as sockets:
        # Everything is bound before anything runs: an address in use leaves nothing half started.
        reception = Reception.open(settings.admin, sockets)
        sockets.callback(stations.close_all)
        stations.bind_all(configuration)
        reloader = Reloader(Path(file), configuration, stations, wall=wall_clock, log=log, metrics=telling.metrics)
        lifeline = None
        if settings.identity.ca:
            from meshproxy.runtime.lifeline import Lifeline  # noqa: PLC0415 - who has files only does not pay for it

            lifeline = Lifeline(settings.identity, telling, identity.look_now)
        views = Views(file, stations, house.services, reloader, telling.writer, lifeline=lifeline)
        stopping = trio.Event()

        def begin_drain() -> RuntimeSettings:
            views.phase.draining = True
            reloader.stop()
            return reloader.configuration.settings.runtime

        nothing_cut = False  # what remains true when a second signal cancels the house
        async with trio.open_nursery() as nursery:

            def reload() -> None:
                identity.look_now()
                reloader.look_now()

            await house.live_in(nursery)
            await nursery.start(follow_signals, stopping, reload, nursery.cancel_scope.cancel, log)
            nursery.start_soon(reloader.watch)
            nursery.start_soon(reloader.grants.follow)
            if lifeline is not None:
                nursery.start_soon(lifeline.run)
            reception.serve(
                nursery, views.all(), views.public(), {"/reload": reload_action(reloader, identity.look_now)}
            )
            listeners = {station.settings.name: station.acceptor.post.address for station in stations}
            announce(log, file, reception, listeners, configuration)
            nothing_cut = await serve_until_drained(stations, stopping, begin_drain)
            nursery.cancel_scope.cancel()
        log.info("stopped", nothing_cut=nothing_cut)
        return nothing_cut
