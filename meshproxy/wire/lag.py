"""How far behind the loop is: a byte is sent through the engine, like anybody's, and timed.

What is timed is what a caller waits for: until trio gives the sender its turn, and then until the engine comes to a
socket that has news, behind all others that have. Events that lie in the kernel are not seen any other way.

Each look wakes the process, and costs more than a small request does. So whoever looks does it seldom while there is
nothing to be late for; what trio's own tasks hold up meanwhile is timed instead (`Turns`), for no more than a look at
the clock each time they have run.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

import trio
from trio.abc import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshproxy.wire.readiness import Readiness

EVERY: Final = 0.05  # seconds, while there is something to do; five looks within the interval in which a lag is judged
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

    @contextlib.contextmanager
    def looking(self) -> Iterator[socket.socket]:
        """Make ready to `look` with what this yields; the engine must be running."""
        here, there = socket.socketpair()
        with here, there:
            for end in (here, there):
                end.setblocking(False)
            self._engine.watch(there, lambda _events: self._come(there))
            try:
                yield here
            finally:
                self._engine.forget(there)

    async def look(self, here: socket.socket, at: float) -> None:
        """Wait until `at` by trio's clock, and send the byte by this socket."""
        due_at = time.perf_counter() + max(at - trio.current_time(), 0.0)
        await trio.sleep_until(at)
        if self._due_at:  # it is still on its way: so much at least
            self._tell(time.perf_counter())
            return
        self._due_at = due_at
        with contextlib.suppress(BlockingIOError):
            here.send(b"?")

    def note(self, lag: float) -> None:
        """Take a lag (seconds) that somebody else has seen just now."""
        self._keep(lag, time.perf_counter())

    def _come(self, there: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            there.recv(1)
            self._tell(time.perf_counter())
            self._due_at = 0.0
        return True

    def _tell(self, now: float) -> None:
        lag = max(now - self._due_at, 0.0)
        self._keep(lag, now)
        self._observe(lag, now)

    def _keep(self, lag: float, now: float) -> None:
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW
            self._longest = [self._longest[1], 0.0]
        self._longest[1] = max(self._longest[1], lag)


class Turns(Instrument):
    """Times how long trio's tasks keep the engine waiting, from `begin` to `end`; tells of `least` seconds or more.

    It belongs to one run of trio.
    """

    def __init__(self, least: float, tell: Callable[[float], None]) -> None:
        self._least = least
        self._tell = tell
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<Turns least={self._least}>"

    def begin(self) -> None:
        """Time them from now on; the one that goes on now from here."""
        self._began = time.perf_counter()
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """Time them no longer."""
        trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's signature
        """Take that tasks may run now (called by trio)."""
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - as above
        """Take that all that could have run (called by trio)."""
        lasted = time.perf_counter() - self._began
        if lasted >= self._least:
            self._tell(lasted)
