"""A performance that a signal ends at its next await, never in between, and so that the stage is taken down."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED: Final = 128  # plus the signal's number: how a shell calls a program ended by one


async def until_stopped(perform: Callable[[], Awaitable[None]], stopped: Callable[[int], None]) -> None:
    """Run `perform` to its end, or until a signal, whose number `stopped` is told at once."""
    with trio.open_signal_receiver(*STOPPING) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                stopped(await anext(signals))
                for number in STOPPING:
                    signal.signal(number, signal.SIG_IGN)  # taking the stage down is under way and short
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            await perform()
            nursery.cancel_scope.cancel()
