"""Trio's wait for I/O, in the hands of an engine.

An engine that is one of trio's tasks is woken through trio: its epoll tells trio's epoll, the task is scheduled and
stepped, asks what there is, and arms its wait anew. That is two system calls and 850 bytecodes for every batch, and
where a batch is one event, more than the request in it costs. An engine that stands where trio would go to sleep saves
them: trio's own epoll is one more descriptor among the engine's, and trio goes on when one of its tasks can. Measured
on a pair of sidecars, one request after the other: 273 us of CPU each instead of 380.

Trio has no public place for this (its guest mode sleeps in a thread). What is used of its inside is looked for first,
and what is not as expected leaves trio alone: the engine is a task then, as it also is beside another in the same run.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, cast

from trio._core import _run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from trio._core._io_epoll import EpollIOManager

# What trio is told when something happened that is none of its own events: a false value would mean to it that the time
# is up and nothing did, so that a virtual clock may jump and `wait_all_tasks_blocked` return.
_ELSEWHERE: Final = ((-1, 0),)

_USED: Final = (
    *("wait_readable", "wait_writable", "notify_closing"),
    *("get_events", "process_events", "force_wakeup", "statistics", "close"),
)


class IoWait:
    """Stands in for trio's I/O manager: it waits by `sleep`, and leaves all else to the manager it stands in for."""

    def __init__(self, manager: EpollIOManager, runnable: Collection[object], sleep: Callable[[float], bool]) -> None:
        self.descriptor: Final = manager._epoll.fileno()  # noqa: SLF001 - readable when trio has events of its own
        self.runnable: Final = runnable  # trio's tasks that can go on
        self.due = False  # set by who waits, when the descriptor is readable
        self._manager = manager
        self._sleep = sleep
        self.wait_readable, self.wait_writable = manager.wait_readable, manager.wait_writable
        self.notify_closing, self.force_wakeup = manager.notify_closing, manager.force_wakeup
        self.statistics, self.close = manager.statistics, manager.close

    def __repr__(self) -> str:
        return f"<IoWait for {self._manager!r}>"

    def get_events(self, timeout: float) -> Sequence[tuple[int, int]]:
        """Wait (called by trio's loop): trio's own events, or what is false only if the time passed uneventfully."""
        happened = self._sleep(timeout)
        events: Sequence[tuple[int, int]] = ()
        if self.due:
            self.due = False
            events = self._manager.get_events(0)
        return events or (_ELSEWHERE if happened else ())

    def process_events(self, events: Sequence[tuple[int, int]]) -> None:
        """Wake the tasks these events are for (called by trio's loop)."""
        if events is not _ELSEWHERE:
            self._manager.process_events(list(events))


@contextlib.contextmanager
def in_trios_place(sleep: Callable[[float], bool]) -> Iterator[IoWait | None]:
    """Wait by `sleep(timeout)` instead of trio, for this run and while the context lasts; None: that cannot be.

    `sleep` is called when trio has nothing to do for so long (seconds), also for 0. It returns when the time is up, or
    soon after `runnable` has something or `descriptor` is readable (it then sets `due`); whether anything happened.
    It must not raise: trio would fall over.
    """
    runner = getattr(_run.GLOBAL_RUN_CONTEXT, "runner", None)
    manager = getattr(runner, "io_manager", None)
    if runner is None or manager is None or not _is_as_expected(runner, manager):
        yield None
        return
    wait = IoWait(manager, runner.runq, sleep)
    runner.io_manager = cast("EpollIOManager", wait)
    try:
        yield wait
    finally:
        runner.io_manager = manager


def _is_as_expected(runner: object, manager: object) -> bool:
    """Not so: another trio than those this was written for, another system, or another engine is there already."""
    has = type(manager).__name__ == "EpollIOManager" and hasattr(runner, "runq")
    return has and all(hasattr(manager, name) for name in ("_epoll", *_USED))
