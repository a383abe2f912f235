"""One handshake at a time, and everybody else in between.

A step of a handshake is half a millisecond of arithmetic. When five hundred callers connect at once, their tasks all
run in one turn of the loop, and whoever has a request open would wait for a quarter of a second. So the steps are done
one per turn: while there is other work, handshakes get a fifth of the time, and all of it while there is none.

Whoever is in the middle of his handshake goes before those who begin theirs. A flood of first words costs somebody who
means it one queue then, and not two; and who has been answered is soon gone, so that nobody begins the later for it.
"""

from __future__ import annotations

import time
from typing import Final

import trio

# Who comes so soon (seconds) behind the one before comes in the same turn of the loop, where nobody else had his.
_SAME_TURN: Final = 50e-6


class Turnstile:
    """In the order in which they come, newcomers behind all others; costs nothing where there is no crowd."""

    def __init__(self) -> None:
        self._newcomers = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()
        self._is_taken = False  # somebody stands in it, waiting for the next turn of the loop
        self._passed_at = 0.0

    def __repr__(self) -> str:
        return f"<Turnstile waiting={len(self._newcomers) + len(self._others) + self._is_taken}>"

    async def enter(self, *, newcomer: bool = False) -> float:
        """Wait until it is one's turn; what is then done is done without waiting, and told by `leave`.

        `newcomer`: it is the first step of somebody who has called us. Returns how many seconds that took.
        """
        came_at = time.perf_counter()
        if not self._is_taken and came_at - self._passed_at > _SAME_TURN:
            return 0.0
        if self._is_taken:
            await (self._newcomers if newcomer else self._others).park()
        self._is_taken = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            # Who is woken stands in it from now on: nobody comes in between.
            self._is_taken = bool(self._others.unpark() or self._newcomers.unpark())
        return time.perf_counter() - came_at

    def leave(self) -> None:
        """Say that it is done."""
        self._passed_at = time.perf_counter()
