"""The readiness engine: who may read or write now, told by plain callbacks instead of task switches.

Trio owns lifetimes, the relay owns bytes. A connection that is established hands its two sockets to one engine; from
then on a message costs a callback, not a wake-up of a task and not an `epoll_ctl`. Measured on a pair of sidecars:
52-72 us of CPU per request against 136-151 us with two tasks per connection.

Rules the engine and its users keep, each learnt from a failure:

* Events are hints. Only the result of `recv` and `send` decides.
* A socket is registered once, edge-triggered, for reading; writing is armed only while a remainder waits (an armed
  `EPOLLOUT` edge wakes the loop for every freed send buffer).
* An edge fires once. A handler that stops before the socket is drained (back-pressure, fairness) returns False and
  calls `resume` when it may go on; resumed handlers run after the batch, and the engine then yields to trio by a
  checkpoint instead of waiting.
* A descriptor number may be reused at once after `close`. Sockets are closed by the task that owns them, after
  `forget`, and never inside a callback: no batch can hold an event of a closed socket's number.
* Never fork while an engine exists: a copied descriptor keeps the registration and suppresses the FIN.
"""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

# The values of epoll_ctl(2), spelled out because the portable engine uses the same words without `select.epoll`.
READ = 0x001
WRITE = 0x004
HANGUP = 0x008 | 0x010 | 0x2000  # EPOLLERR | EPOLLHUP | EPOLLRDHUP
_RDHUP = 0x2000
SEVERED = HANGUP & ~_RDHUP  # an error, or both directions gone; a peer that only stopped sending still listens
_EDGE = 1 << 31
_READING = READ | _RDHUP | _EDGE

# A bound on how long other tasks wait for one batch; the rest of the events stay in the kernel.
BATCH = 64

# While there is more to do, resumed handlers and new events take turns for so long (seconds) before trio's tasks get
# theirs. Passing through trio costs ten times what asking the kernel does; but whoever dials, or is accepted, needs
# several passes, and a chunk of bulk alone takes half of this.
_TURN = 0.002


# More than so many sockets (each with its kinds of events) that have news within such a time, while somebody moves
# bulk, are a crowd. Two streams of bulk and what becomes of them at both ends are none.
_FEW = 12
_WINDOW = 0.05  # seconds


class Readiness(Protocol):
    """What a connection may ask of an engine. All calls are synchronous and belong to the trio thread.

    `crowded` tells that many others had news a moment ago, while somebody had more to read: long turns make them wait.
    """

    crowded: bool

    def watch(self, sock: socket.socket, handler: Callable[[int], bool]) -> None:
        """Call `handler(events)` whenever `sock` becomes readable, hangs up, or (when armed) becomes writable.

        The handler returns True when it read until the socket had no more, False when it stopped earlier (it then owes
        a `resume`) or the stream has ended: it need not be told again that there is something to read. It must not
        raise: an exception here ends the engine, and with it the process.
        """

    def resume(self, sock: socket.socket) -> None:
        """Call the handler of `sock` with no event (0) after the current batch; no-op for an unwatched socket."""

    def arm_write(self, sock: socket.socket) -> None:
        """Also report `WRITE` until `disarm_write`."""

    def disarm_write(self, sock: socket.socket) -> None:
        """Report `WRITE` no longer."""

    def forget(self, sock: socket.socket) -> None:
        """Stop watching; idempotent. Must come before `close`."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. `watch` is legal only while this runs."""


class EpollReadiness:
    """One edge-triggered epoll in one trio task, which waits on the epoll's own descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], bool]] = {}
        self._resumed: dict[int, Callable[[int], bool]] = {}
        self._asleep = False
        self._woken = trio.Event()
        self._heard: set[tuple[int, int]] = set()  # what came beside those who are resumed, in this window
        self._window_ends = 0.0
        self.crowded = False

    def __repr__(self) -> str:
        return f"<EpollReadiness watching={len(self._handlers)} resumed={len(self._resumed)}>"

    def watch(self, sock: socket.socket, handler: Callable[[int], bool]) -> None:
        """See `Readiness.watch`."""
        descriptor = sock.fileno()
        self._epoll.register(descriptor, _READING)
        self._handlers[descriptor] = handler

    def resume(self, sock: socket.socket) -> None:
        """See `Readiness.resume`."""
        descriptor = sock.fileno()
        handler = self._handlers.get(descriptor)
        if handler is not None:
            self._resumed[descriptor] = handler
            if self._asleep:
                self._woken.set()

    def arm_write(self, sock: socket.socket) -> None:
        """See `Readiness.arm_write`."""
        self._epoll.modify(sock.fileno(), _READING | WRITE)

    def disarm_write(self, sock: socket.socket) -> None:
        """See `Readiness.disarm_write`."""
        self._epoll.modify(sock.fileno(), _READING)

    def forget(self, sock: socket.socket) -> None:
        """See `Readiness.forget`."""
        descriptor = sock.fileno()
        if self._handlers.pop(descriptor, None) is not None:
            self._resumed.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `Readiness.run`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_resumed)
                task_status.started()
                await self._run_events()
        finally:
            # Who is cancelled together with the engine lets go of its sockets after it: `forget` is a no-op by then.
            self._handlers.clear()
            self._resumed.clear()
            self._epoll.close()

    async def _run_events(self) -> None:
        poll, handlers, descriptor = self._epoll.poll, self._handlers, self._epoll.fileno()
        batch: Sequence[tuple[int, int]] = ()
        until = 0.0
        while True:
            if not batch and not self._resumed:
                self._asleep = True
                await trio.lowlevel.wait_readable(descriptor)
                self._asleep = False
                until = self._begin_turn()
            elif time.perf_counter() >= until:
                await trio.lowlevel.checkpoint()
                until = self._begin_turn()
            batch = poll(0, BATCH)
            for ready, events in batch:
                # An earlier callback of this batch may have ended this connection.
                handler = handlers.get(ready)
                if handler is not None:
                    handler(events)
            if self._resumed:
                self._heard.update(batch)
                self._drain_resumed()

    def _begin_turn(self) -> float:
        """Return when it ends."""
        now = time.perf_counter()
        if now >= self._window_ends:
            self.crowded = len(self._heard) > _FEW
            self._heard.clear()
            self._window_ends = now + _WINDOW
        return now + _TURN

    async def _run_resumed(self) -> None:
        # A connection's owner may resume it outside any batch, while the loop above sleeps in the kernel.
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            while self._resumed:
                self._drain_resumed()
                await trio.lowlevel.checkpoint()

    def _drain_resumed(self) -> None:
        # Swapped first: who is resumed again meanwhile waits for the next round, or one stream would starve the others.
        batch, self._resumed = self._resumed, {}
        for descriptor, handler in batch.items():
            if self._handlers.get(descriptor) is handler:
                handler(0)


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
    """The same interface over trio's own waits, for systems without epoll (macOS).

    Trio reports levels, not edges: a handler that stopped early, or met the end, parks its reader, or it would spin.
    """

    def __init__(self) -> None:
        self.crowded = False  # trio's tasks take turns as they please
        self._waits: dict[int, _Waits] = {}
        self._resumed: dict[int, _Waits] = {}
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


def make_readiness() -> Readiness:
    """Return the best engine this system has."""
    return EpollReadiness() if hasattr(select, "epoll") else TrioReadiness()
