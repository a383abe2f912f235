"""What signals mean: SIGTERM and SIGINT drain, a second one exits at once, SIGHUP looks at the files again."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.telemetry.events import Logger

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})


async def follow_signals(
    stopping: trio.Event,
    reload: Callable[[], None],
    exit_now: Callable[[], None],
    log: Logger,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Act on signals until cancelled; `reload` is not called once `stopping` is set."""
    with trio.open_signal_receiver(*_STOP, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number in _STOP and stopping.is_set():
                log.warning("exiting_at_once", signal=name)
                exit_now()
            elif number in _STOP:
                log.info("draining", signal=name)
                stopping.set()
            elif stopping.is_set():
                log.info("signal_ignored", signal=name, reason="draining")
            else:
                reload()
