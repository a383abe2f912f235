"""One piece of work in a turn of the loop, whoever asks: pages are milliseconds each, and many may ask at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Turns:
    """In the order in which they come; between any two of them everybody else has his turn.

    Fifty scrapers at once would otherwise be a stall of fifty pages to whoever has a request open.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<Turns waiting={self._lock.statistics().tasks_waiting}>"

    async def do(self, work: Callable[[], _T]) -> _T:
        """Return what `work` does in its turn; what it raises is raised."""
        async with self._lock:
            await trio.lowlevel.checkpoint()
            return work()
