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
from meshproxy.inbound.visit import Services
from meshproxy.limits.flight import Flight
from meshproxy.runtime.chronicle import next_second
from meshproxy.runtime.doors import OwnDoors
from meshproxy.runtime.drain import Ending, serve_until_drained
from meshproxy.runtime.equip import Workshop
from meshproxy.runtime.observatory import Observatory
from meshproxy.runtime.origin import Departure, Origin, in_words
from meshproxy.runtime.pages import drain_action, log_level_action, reload_action
from meshproxy.runtime.pressure import Pressure
from meshproxy.runtime.reception import Reception
from meshproxy.runtime.reload import Reloader
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.stations import Stations
from meshproxy.runtime.telling import announce, wall_clock
from meshproxy.runtime.views import Views
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.engine import make_readiness
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    from meshproxy.admin.answers import Action, Order
    from meshproxy.runtime.auditing import Auditing
    from meshproxy.runtime.chronicle import Chronicle
    from meshproxy.runtime.doors import Doors
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Settings
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.relay import Wall


@dataclass(frozen=True, slots=True)
class House:
    """What serves, wired and closed: nothing runs yet, and nothing is bound."""

    identity: IdentityStore
    engine: Readiness
    sweeper: Sweeper
    services: Services
    stations: Stations
    pressure: Pressure
    auditing: Auditing | None = None

    @classmethod
    def furnish(
        cls,
        settings: Settings,
        recorder: Recorder,
        doors: Doors,
        wall: Wall,
        *,
        worker: int | None = None,
        shift: int = 0,
    ) -> House:
        """Wire everything, as worker 1, 2, ... of several; `close` it in the end. `shift`: see `Origin`.

        `wall` is what certificates and grants end by. Raises FaultyInput for an identity that cannot be used and cannot
        heal, and for an audit log that cannot be written.
        """
        identity = IdentityStore(settings.identity, wall=wall, log=recorder.log, metrics=recorder.metrics)
        identity.load_first()
        auditing = None
        if settings.audit is not None:
            from meshproxy.runtime.auditing import Auditing  # noqa: PLC0415 - who records nothing does not pay for it

            auditing = Auditing.open(settings.audit, identity, recorder, worker=worker, shift=shift)
        engine, sweeper = make_readiness(), Sweeper()
        # A clock that a test moves has no faster one beside it.
        relay = Relay(engine, Buffers(), sweeper, wall, time.time if wall is wall_clock else None)
        resolver, tracer = Resolver(), None
        if settings.tracing is not None:
            from meshproxy.runtime.tracing import make_tracer  # noqa: PLC0415 - as above

            tracer = make_tracer(settings.tracing, identity, relay, resolver, recorder)
        services = Services(relay, resolver, identity, recorder, tracer)
        flight = Flight(max_lag=settings.runtime.max_lag)
        stations = Stations(
            Workshop(services, sweeper, auditing, flight).equip, recorder, wall, doors, flight, engine=engine
        )
        pressure = Pressure(flight, engine, recorder)
        return cls(identity, engine, sweeper, services, stations, pressure, auditing)

    def close(self) -> None:
        """Write down what is left to be written; nothing is decided any more."""
        if self.auditing is not None:
            self.auditing.journal.close()

    async def live_in(self, nursery: trio.Nursery) -> None:
        """Start what everything else stands on."""
        await nursery.start(self.engine.run)
        await nursery.start(self.sweeper.run)
        nursery.start_soon(self.pressure.run)
        nursery.start_soon(self.identity.watch)
        if self.auditing is not None and self.auditing.brake is not None:
            nursery.start_soon(self.auditing.brake.run)
        if self.services.tracer is not None:
            nursery.start_soon(self.services.tracer.exporter.run)


def settle() -> None:
    """Have the collector walk no more what was made to start: it will live as long as the process."""
    gc.collect()
    gc.freeze()


async def run_sidecar(file: str, configuration: Configuration, telling: Telling, origin: Origin | None = None) -> bool:
    """Run one sidecar until a signal ends it, or another process takes over. Returns whether nothing had to be cut.

    Raises FaultyInput for an identity that cannot be used and cannot heal, StartError when a listener cannot be bound.
    """
    settings, log, origin = configuration.settings, telling.log, origin or Origin()
    doors, manager = OwnDoors(origin.inherited), origin.manager
    recorder = telling.recorder(trio.current_time, settings.telemetry)
    house = House.furnish(settings, recorder, doors, wall_clock, shift=origin.shift)
    identity, stations = house.identity, house.stations
    with ExitStack() as sockets:
        sockets.callback(house.close)
        # Everything is bound before anything runs: an address in use leaves nothing half started.
        reception = Reception.open(settings.admin, sockets, origin.inherited)
        sockets.callback(stations.close_all)
        stations.bind_all(configuration)
        reloader = Reloader(
            Path(file),
            configuration,
            stations,
            wall=wall_clock,
            log=log,
            metrics=telling.metrics,
            around=lambda: manager.reloading(lambda: in_words(reloader)),
            sandbox=origin.sandbox,
        )
        lifeline = None
        if settings.identity.ca:
            from meshproxy.runtime.lifeline import Lifeline  # noqa: PLC0415 - who has files only does not pay for it

            lifeline = Lifeline(settings.identity, telling, identity.look_now)
        views = Views(
            file,
            stations,
            house.services,
            reloader,
            telling.writer,
            pressure=house.pressure,
            lifeline=lifeline,
            auditing=house.auditing,
            sandbox=str(origin.sandbox),
        )
        departure = Departure()
        nothing_cut = False  # what remains true when a second signal cancels the house
        observatory = Observatory(file, str(reception.address), views)

        def begin_drain() -> Ending:
            views.phase.draining = True
            reloader.stop()
            return Ending(reloader.configuration.settings.runtime, departure.heirs)

        async with trio.open_nursery() as nursery:

            def reload() -> None:
                identity.look_now()
                reloader.look_now()

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                nonlocal nothing_cut
                nothing_cut = await serve_until_drained(stations, departure.stopping, begin_drain, task_status)
                nursery.cancel_scope.cancel()

            await house.live_in(nursery)
            settle()
            await nursery.start(follow_signals, departure.stopping, reload, nursery.cancel_scope.cancel, log)
            nursery.start_soon(origin.stops, departure, reloader)
            nursery.start_soon(reloader.watch)
            nursery.start_soon(reloader.grants.follow)
            if lifeline is not None:
                nursery.start_soon(lifeline.run)
            nursery.start_soon(_look_back, recorder, views, observatory.chronicle)
            nursery.start_soon(observatory.tell_denials)
            actions: dict[str, Action | Order] = {
                "/reload": reload_action(reloader, identity.look_now),
                "/drain": drain_action(departure.stopping, log),
                "/log-level": log_level_action(telling.log_level.set, log),
            }
            upgrades = origin.hand_over(departure, stations.listening, reception, log)
            reception.serve(nursery, {**views.all(), **observatory.all()}, views.public(), actions, upgrades)
            listeners = {station.settings.name: station.acceptor.post.address for station in stations}
            await nursery.start(serve)
            announce(log, file, reception, listeners, configuration)
            await origin.serves(log, in_words(reloader))
            nursery.start_soon(manager.beat)
        log.info("stopped", nothing_cut=nothing_cut)
        return nothing_cut


async def _look_back(recorder: Recorder, views: Views, chronicle: Chronicle) -> None:
    """Write down once a second what has happened; forever."""
    while True:
        now = await next_second(wall_clock)
        chronicle.refuse(*recorder.fresh.take())
        await chronicle.second(now, recorder.flows.take(), views.facts(), views.lag)
