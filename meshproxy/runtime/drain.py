"""Ending without losing anybody (the contract's drain).

Ready goes false; accepting goes on for `drain_delay`, because load balancers are slow to hear; then the inbound queue
is emptied and closed. Outbound listeners keep accepting until inbound is idle: a request being served may still need
them. What is left at `drain_timeout` is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.runtime.stations import idle_grace

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.runtime.stations import Stations
    from meshproxy.settings.schema import RuntimeSettings


async def serve_until_drained(
    stations: Stations,
    stopping: trio.Event,
    begin: Callable[[], RuntimeSettings],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> bool:
    """Serve until `stopping` is set, then drain. Returns whether nothing had to be cut.

    `begin` is called when the drain begins and returns the settings in force then. All listening sockets are closed on
    return, also when cancelled.
    """
    try:
        async with trio.open_nursery() as outbound:
            await stations.run("outbound", outbound)
            async with trio.open_nursery() as inbound:
                await stations.run("inbound", inbound)
                task_status.started()
                await stopping.wait()
                settings = begin()
                ending = stations.all
                grace = idle_grace(settings)
                for station in stations.of("inbound"):
                    station.equipment.live.drain(grace)  # answers say `Connection: close` from now on
                await trio.sleep(settings.drain_delay)
                deadline = trio.current_time() + settings.drain_timeout
                for station in stations.of("inbound"):
                    station.stop(grace=grace, within=settings.drain_timeout)
            for station in stations.of("outbound"):
                station.stop(grace=grace, within=max(deadline - trio.current_time(), 0.0))
    finally:
        stations.close_all()
    return not any(station.was_cut for station in ending)
