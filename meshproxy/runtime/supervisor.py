"""A sidecar of several workers: this process judges the files, binds, leads and tells; it carries no byte itself.

No engine lives here, so starting processes is safe at any time (a forked copy of an epoll would suppress what it
watches). What the workers share are the listening sockets; not by SO_REUSEPORT, where each has a queue of its own and
closing one resets who waits in it.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import StartError
from meshproxy.runtime.crew import Crew
from meshproxy.runtime.doorkeeper import Doorkeeper
from meshproxy.runtime.life import Life
from meshproxy.runtime.observatory import Observatory
from meshproxy.runtime.origin import Departure, Origin, in_words
from meshproxy.runtime.overview import Overview
from meshproxy.runtime.pages import drain_action, log_level_action, reload_action
from meshproxy.runtime.reception import Reception
from meshproxy.runtime.reload import Reloader
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.telling import announce, wall_clock
from meshproxy.settings.load import load_and_keep

if TYPE_CHECKING:
    from meshproxy.admin.answers import Action, Order
    from meshproxy.runtime.life import Launch
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration

# Seconds a worker may take beyond the time it has to drain, and to end when it is told to do so at once.
_TO_END = 5.0
_TO_BE_CUT = 2.0


async def run_supervisor(
    launch: Launch, configuration: Configuration, telling: Telling, origin: Origin | None = None
) -> bool:
    """Run a sidecar's workers until a signal ends it, or another process takes over. Returns whether nothing was cut.

    `configuration` was loaded with the contents of its files. Raises FaultyInput for an identity that cannot be used
    and cannot heal, StartError when a listener cannot be bound or no worker started.
    """
    file, settings, log, metrics = launch.file, configuration.settings, telling.log, telling.metrics
    origin = origin or Origin()
    manager = origin.manager
    with ExitStack() as sockets:
        reception = Reception.open(settings.admin, sockets, origin.inherited)
        doors = Doorkeeper(launch.size, origin.inherited)
        sockets.callback(doors.remove_files)
        sockets.callback(doors.close_all)
        doors.open_all(settings)

        crew = Crew(configuration, doors, launch.size, partial(Life.begin, launch), log=log, metrics=metrics)
        reloader = Reloader(
            Path(file),
            configuration,
            crew,
            wall=wall_clock,
            log=log,
            metrics=metrics,
            load=load_and_keep,
            around=lambda: manager.reloading(lambda: in_words(reloader)),
            sandbox=origin.sandbox,
        )
        lifeline = None
        if settings.identity.ca:
            from meshproxy.runtime.lifeline import Lifeline  # noqa: PLC0415 - who has files only does not pay for it

            lifeline = Lifeline(settings.identity, telling, crew.look_at_identity)
        overview = Overview(file, crew, doors, reloader, telling, lifeline=lifeline, sandbox=str(origin.sandbox))
        observatory = Observatory(file, str(reception.address), overview)
        departure, cutting = Departure(), trio.Event()

        def reload() -> None:
            crew.look_at_identity()
            reloader.look_now()

        async def lead() -> None:
            await crew.started()
            house.start_soon(reloader.watch)
            house.start_soon(reloader.grants.follow)
            if lifeline is not None:
                house.start_soon(lifeline.run)
            listeners = {name: address for (_, name), address in doors.addresses.items()}
            announce(log, file, reception, listeners, configuration, workers=launch.size)
            if origin.predecessor is not None and (state := await overview.state()) != "serving":
                raise StartError(f"the workers are {state}, not serving; the running sidecar goes on")
            await origin.serves(log, in_words(reloader))
            house.start_soon(manager.beat)
            house.start_soon(crew.watch_over, manager.watchdog)

        async with trio.open_nursery() as house:
            house.start_soon(origin.stops, departure, reloader)
            await house.start(follow_signals, departure.stopping, reload, cutting.set, log)
            house.start_soon(overview.look_back, observatory.chronicle)
            house.start_soon(observatory.tell_denials)
            actions: dict[str, Action | Order] = {
                "/reload": reload_action(reloader, crew.look_at_identity),
                "/drain": drain_action(departure.stopping, log),
                "/log-level": log_level_action(partial(_log_from, crew, telling), log),
            }
            upgrades = origin.hand_over(departure, doors.listening, reception, log)
            views = {**overview.all(), **observatory.all()}
            reception.serve(house, views, overview.public(), actions, upgrades)
            house.start_soon(lead)
            house.start_soon(_end, departure, cutting, crew, overview, reloader)
            await crew.run()
            house.cancel_scope.cancel()
        log.info("stopped", nothing_cut=crew.nothing_cut)
        return crew.nothing_cut


async def _end(departure: Departure, cutting: trio.Event, crew: Crew, overview: Overview, reloader: Reloader) -> None:
    """Wait until this process is to end, and see that its workers do."""
    await departure.stopping.wait()
    overview.draining = True
    reloader.stop()
    crew.drain(departure.heirs)
    runtime = reloader.configuration.settings.runtime
    with trio.move_on_after(runtime.drain_delay + runtime.drain_timeout + _TO_END):
        await cutting.wait()
    crew.cut()
    await trio.sleep(_TO_BE_CUT)
    crew.kill()


def _log_from(crew: Crew, telling: Telling, level: str) -> None:
    telling.log_level.set(level)
    crew.log_from(level)
