"""How far behind the loop is: a byte is sent through the engine, like anybody's, and timed.

What is timed is what a caller waits for: until trio gives the sender its turn, and then until the engine comes to a
socket that has news, behind all others that have. Events that lie in the kernel are not seen any other way.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.wire.readiness import Readiness

EVERY: Final = 0.05  # seconds; five looks within the interval in which a lag is judged
_WINDOW: Final = 1.0  # seconds whose longest lag is told


class LagProbe:
    """Sends the byte, and tells `observe` of each look: the lag in seconds, and now by a monotonic clock."""

    def __init__(self, engine: Readiness, observe: Callable[[float, float], None]) -> None:
        self._engine = engine
        self._observe = observe
        self._due_at = 0.0  # when the byte that is on its way should have come; 0: none is
        self._longest = [0.0, 0.0]  # of the window before, and of this one
        self._window_ends = 0.0

    def __repr__(self) -> str:
        return f"<LagProbe longest={self.longest * 1000:.1f}ms>"

    @property
    def longest(self) -> float:
        """The longest lag of the last second or two."""
        return max(self._longest)

    async def run(self) -> None:
        """Look until cancelled; the engine must be running."""
        here, there = socket.socketpair()
        with here, there:
            for end in (here, there):
                end.setblocking(False)
            self._engine.watch(there, lambda _events: self._come(there))
            try:
                await self._send(here)
            finally:
                self._engine.forget(there)

    async def _send(self, here: socket.socket) -> None:
        while True:
            due_at = time.perf_counter() + EVERY
            await trio.sleep(EVERY)
            if self._due_at:  # it is still on its way: so much at least
                self._tell(time.perf_counter())
                continue
            self._due_at = due_at
            with contextlib.suppress(BlockingIOError):
                here.send(b"?")

    def _come(self, there: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            there.recv(1)
            self._tell(time.perf_counter())
            self._due_at = 0.0
        return True

    def _tell(self, now: float) -> None:
        lag = max(now - self._due_at, 0.0)
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW
            self._longest = [self._longest[1], 0.0]
        self._longest[1] = max(self._longest[1], lag)
        self._observe(lag, now)
