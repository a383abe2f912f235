"""Deadlines on a coarse clock: setting one is an assignment, and one task looks at all of them four times a second.

A timer or a cancel scope per message would cost more than the message.
"""

from __future__ import annotations

from typing import Protocol

import trio

TICK = 0.25


def next_tick() -> float:
    """Return when the next tick is, by trio's clock: for all at the same moment, so that the process wakes once."""
    return (trio.current_time() // TICK + 1) * TICK


class Swept(Protocol):
    """Something with a deadline in seconds of the sweeper's `now`; `inf` for none."""

    deadline: float

    def expire(self, now: float) -> None:
        """Act on the deadline that has passed, and set another or leave."""


class Sweeper:
    """Calls `expire` on whatever is past its deadline, at most one tick late. Must not raise from there.

    `now` stands still between two ticks: a deadline set by it has one TICK on top, and is never early.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._items: set[Swept] = set()

    def __repr__(self) -> str:
        return f"<Sweeper items={len(self._items)}>"

    def add(self, item: Swept) -> None:
        """Look after `item` until `discard`."""
        self._items.add(item)

    def discard(self, item: Swept) -> None:
        """Look after it no longer; idempotent."""
        self._items.discard(item)

    def within(self, seconds: float) -> float:
        """Return the deadline `seconds` from now, never early."""
        return self.now + seconds + TICK

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        self.now = trio.current_time()
        task_status.started()
        while True:
            await trio.sleep_until(next_tick())
            now = self.now = trio.current_time()
            for item in [item for item in self._items if item.deadline <= now]:
                if item in self._items:  # another's end may have been its own
                    item.expire(now)
