"""Ending without losing anybody (the contract's drain).

Ready goes false; accepting goes on for `drain_delay`, because load balancers are slow to hear; then the inbound queue
is emptied and closed. Outbound listeners keep accepting until inbound is idle: a request being served may still need
them. What is left at `drain_timeout` is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshproxy.inbound.accept import Acceptor
    from meshproxy.settings.schema import RuntimeSettings


@dataclass(frozen=True, slots=True)
class Listeners:
    """All acceptors of one sidecar, by direction."""

    inbound: Sequence[Acceptor]
    outbound: Sequence[Acceptor]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called once each: when the drain begins, and when no inbound connection is left."""

    begin: Callable[[], None]
    inbound_idle: Callable[[], None]


async def serve_until_drained(
    listeners: Listeners, settings: RuntimeSettings, stopping: trio.Event, hooks: Hooks
) -> bool:
    """Serve until `stopping` is set, then drain. Returns whether nothing had to be cut.

    All listening sockets are closed on return, also when cancelled.
    """
    try:
        async with trio.open_nursery() as outbound:
            accepting_outbound = _accept(listeners.outbound, outbound)
            async with trio.open_nursery() as inbound:
                accepting_inbound = _accept(listeners.inbound, inbound)
                await stopping.wait()
                hooks.begin()
                await trio.sleep(settings.drain_delay)
                _stop(accepting_inbound, listeners.inbound, inbound)
                deadline = trio.current_time() + settings.drain_timeout
                inbound.cancel_scope.deadline = outbound.cancel_scope.deadline = deadline
            hooks.inbound_idle()
            _stop(accepting_outbound, listeners.outbound, outbound)
    finally:
        for acceptor in (*listeners.inbound, *listeners.outbound):
            acceptor.close()
    return not (inbound.cancel_scope.cancelled_caught or outbound.cancel_scope.cancelled_caught)


def _accept(acceptors: Sequence[Acceptor], connections: trio.Nursery) -> trio.CancelScope:
    """Start the accept loops; cancelling the scope returned ends them, and not their connections."""
    scope = trio.CancelScope()

    async def accept() -> None:
        with scope:
            async with trio.open_nursery() as loops:
                for acceptor in acceptors:
                    loops.start_soon(acceptor.run, connections)

    connections.start_soon(accept)
    return scope


def _stop(accepting: trio.CancelScope, acceptors: Sequence[Acceptor], connections: trio.Nursery) -> None:
    accepting.cancel()
    for acceptor in acceptors:
        acceptor.take_waiting(connections)
        acceptor.close()
