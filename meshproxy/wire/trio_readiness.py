"""An engine over trio's own waits, for systems without epoll (macOS)."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

import trio

from meshproxy.wire.readiness import READ, WRITE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class _Waits:
    """The two tasks that stand in for one epoll registration."""

    __slots__ = ("armed", "handler", "parked", "reading", "sock", "writing")

    def __init__(self, sock: socket.socket, handler: Callable[[int], bool]) -> None:
        self.sock = sock
        self.handler = handler
        self.reading = trio.CancelScope()
        self.writing = trio.CancelScope()
        self.parked: trio.Event | None = None  # set free when a resumed handler has drained the socket
        self.armed = trio.Event()

    def tell(self, events: int) -> bool:
        """Call the handler, unless the socket was forgotten after the task was woken and before its turn came."""
        return self.reading.cancel_called or self.handler(events)


class TrioReadiness:
    """Two tasks for each socket; see `Readiness`.

    Trio reports levels, not edges: a handler that stopped early, or met the end, parks its reader, or it would spin.
    """

    def __init__(self) -> None:
        self.crowded = False  # trio's tasks take turns as they please
        self._waits: dict[int, _Waits] = {}
        self._resumed: dict[int, _Waits] = {}
        self._afterwards: list[Callable[[], None]] = []
        self._later: deque[Callable[[float], None]] = deque()
        self._woken = trio.Event()
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<TrioReadiness watching={len(self._waits)} resumed={len(self._resumed)}>"

    def watch(self, sock: socket.socket, handler: Callable[[int], bool]) -> None:
        """See `Readiness.watch`."""
        if self._nursery is None:
            raise RuntimeError("the readiness engine is not running")
        waits = self._waits[sock.fileno()] = _Waits(sock, handler)
        self._nursery.start_soon(self._read, waits)
        self._nursery.start_soon(self._write, waits)

    def resume(self, sock: socket.socket) -> None:
        """See `Readiness.resume`."""
        waits = self._waits.get(sock.fileno())
        if waits is not None:
            self._resumed[sock.fileno()] = waits
            self._woken.set()

    def afterwards(self, call: Callable[[], None]) -> None:
        """See `Readiness.afterwards`."""
        self._afterwards.append(call)
        self._woken.set()

    def later(self, call: Callable[[float], None]) -> None:
        """See `Readiness.later`: a turn of trio's."""
        self._later.append(call)
        self._woken.set()

    def arm_write(self, sock: socket.socket) -> None:
        """See `Readiness.arm_write`."""
        self._waits[sock.fileno()].armed.set()

    def disarm_write(self, sock: socket.socket) -> None:
        """See `Readiness.disarm_write`."""
        self._waits[sock.fileno()].armed = trio.Event()

    def forget(self, sock: socket.socket) -> None:
        """See `Readiness.forget`."""
        waits = self._waits.pop(sock.fileno(), None)
        if waits is not None:
            self._resumed.pop(sock.fileno(), None)
            waits.reading.cancel()
            waits.writing.cancel()
            # The owner closes the descriptor next; the waiting tasks must have left it by then.
            trio.lowlevel.notify_closing(sock)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `Readiness.run`."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                batch, self._resumed = self._resumed, {}
                for descriptor, waits in batch.items():
                    if self._waits.get(descriptor) is waits and waits.handler(0) and waits.parked is not None:
                        waits.parked.set()
                calls, self._afterwards = self._afterwards, []
                for call in calls:
                    call()
                if self._later:
                    self._later.popleft()(0.0)
                if self._later or self._afterwards or self._resumed:
                    self._woken.set()
                await trio.lowlevel.checkpoint()

    async def _read(self, waits: _Waits) -> None:
        # Asked before every wait: the descriptor of a forgotten socket may be closed, or somebody else's, already.
        with waits.reading, contextlib.suppress(trio.ClosedResourceError):
            while not waits.reading.cancel_called:
                await trio.lowlevel.wait_readable(waits.sock)
                if not waits.tell(READ):
                    waits.parked = trio.Event()
                    await waits.parked.wait()
                    waits.parked = None

    async def _write(self, waits: _Waits) -> None:
        with waits.writing, contextlib.suppress(trio.ClosedResourceError):
            while not waits.writing.cancel_called:
                await waits.armed.wait()
                await trio.lowlevel.wait_writable(waits.sock)
                # The handler may have gone on reading where it had stopped for what was now sent.
                if waits.tell(WRITE) and waits.parked is not None:
                    waits.parked.set()
