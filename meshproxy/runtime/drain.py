"""Ending without losing anybody (the contract's drain).

Ready goes false; accepting goes on for `drain_delay`, because load balancers are slow to hear; then the inbound queue
is emptied and closed. Outbound listeners keep accepting until inbound is idle: a request being served may still need
them. What is left at `drain_timeout` is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshproxy.runtime.stations import idle_grace

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from meshproxy.runtime.stations import Stations
    from meshproxy.settings.plan import Key
    from meshproxy.settings.schema import RuntimeSettings

_TO_CLOSE = 10.0  # seconds from the last connection to the end of the process, and more than enough


@dataclass(frozen=True, slots=True)
class Ending:
    """How a drain goes: the settings in force; and when another process has taken over, which listeners it has now.

    Then nobody is waited for who has not heard: all of them are let go of at once.
    """

    settings: RuntimeSettings
    heirs: Container[Key] | None = None


async def serve_until_drained(
    stations: Stations,
    stopping: trio.Event,
    begin: Callable[[], Ending],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> bool:
    """Serve until `stopping` is set, then drain. Returns whether nothing had to be cut.

    `begin` is called when the drain begins and says how it goes. All listening sockets are closed on
    return, also when cancelled.
    """
    try:
        async with trio.open_nursery() as outbound:
            await stations.run("outbound", outbound)
            async with trio.open_nursery() as inbound:
                await stations.run("inbound", inbound)
                task_status.started()
                await stopping.wait()
                ending = begin()
                settings, leaving = ending.settings, stations.all
                grace = idle_grace(settings)
                for station in stations.of("inbound"):
                    station.equipment.live.drain(grace)  # answers say `Connection: close` from now on
                if ending.heirs is None:
                    await trio.sleep(settings.drain_delay)
                    first = stations.of("inbound")
                else:
                    first = list(stations)
                heirs = ending.heirs
                deadline = trio.current_time() + settings.drain_timeout
                for station in first:
                    station.stop(
                        grace=grace,
                        within=settings.drain_timeout,
                        handed_over=heirs is not None and station.key in heirs,
                    )
            for station in stations.of("outbound"):
                station.stop(grace=grace, within=max(deadline - trio.current_time(), 0.0))
    finally:
        stations.close_all()
    return not any(station.was_cut for station in leaving)


def drain_takes(settings: RuntimeSettings) -> float:
    """Return the seconds after which a drain is over, whatever happens."""
    return settings.drain_delay + settings.drain_timeout + _TO_CLOSE
