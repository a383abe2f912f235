"""The engine of Linux: one edge-triggered epoll.

It waits in trio's place (`io_wait`), so that a batch of events costs one system call, and no task is stepped for it.
Where that cannot be, a task of trio waits for the epoll's own descriptor.
"""

from __future__ import annotations

import select
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from meshproxy.wire.io_wait import IoWait, in_trios_place
from meshproxy.wire.readiness import PEER_ENDED, READ, WRITE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

_READING = READ | PEER_ENDED | 1 << 31  # EPOLLET

# A bound on how long other tasks wait for one batch; the rest of the events stay in the kernel.
BATCH = 64

# While there is more to do, resumed handlers and new events take turns for so long (seconds) before trio's tasks get
# theirs. Passing through trio costs ten times what asking the kernel does; but whoever dials, or is accepted, needs
# several passes, and a chunk of bulk alone takes half of this.
_TURN = 0.002

# What takes long may go on for so long (seconds) while nobody else has anything to do. Who comes meanwhile waits for
# it; less would cost those who shake hands more than it gains him (see `turnstile`).
_LONG_TURN = 0.016

# And for so long while others have: a fifth of the time, also where one thing takes next to none.
_SHORT_TURN = 0.0005

# More than so many sockets (each with its kinds of events) that have news within such a time, while somebody moves
# bulk, are a crowd. Two streams of bulk and what becomes of them at both ends are none.
_FEW = 12
_WINDOW = 0.05  # seconds


class EpollReadiness:
    """One edge-triggered epoll; see `Readiness`. A second one in the same run of trio waits in a task."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], bool]] = {}
        self._resumed: dict[int, Callable[[int], bool]] = {}
        self._afterwards: list[Callable[[], None]] = []
        self._later: deque[Callable[[float], None]] = deque()
        self._others_until = 0.0  # have their turn, before the next of those
        self._wait: IoWait | None = None
        self._broken: BaseException | None = None
        self._ended = trio.Event()
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

    def afterwards(self, call: Callable[[], None]) -> None:
        """See `Readiness.afterwards`."""
        self._afterwards.append(call)
        if self._asleep:
            self._woken.set()

    def later(self, call: Callable[[float], None]) -> None:
        """See `Readiness.later`."""
        self._later.append(call)
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
            with in_trios_place(self._sleep) as self._wait:
                if self._wait is None:
                    await self._run_as_task(task_status)
                    return
                self._epoll.register(self._wait.descriptor, READ)
                task_status.started()
                await self._ended.wait()
            if self._broken is not None:
                raise self._broken
        finally:
            self._do_afterwards()
            # Who is cancelled together with the engine lets go of its sockets after it: `forget` is a no-op by then.
            self._handlers.clear()
            self._resumed.clear()
            self._epoll.close()

    def _sleep(self, timeout: float) -> bool:
        """Do what `in_trios_place` asks for."""
        if self._wait is None or self._broken is not None:
            return True  # `run` is about to take it back
        try:
            return self._serve(self._wait, timeout)
        except BaseException as error:  # noqa: BLE001 - raised again where it can be caught: by `run`
            self._broken = error
            self._ended.set()
            return True

    def _serve(self, wait: IoWait, timeout: float) -> bool:
        """See `_sleep`."""
        poll, handlers, runnable, trios = self._epoll.poll, self._handlers, wait.runnable, wait.descriptor
        ends = self._look_at_the_crowd() + timeout
        turn_ends, happened = 0.0, False
        patience = 0 if self._resumed or self._afterwards or self._later else timeout
        while True:
            batch = poll(patience, BATCH)
            wait.due = False
            for ready, events in batch:
                # An earlier callback of this batch may have ended this connection.
                handler = handlers.get(ready)
                if handler is not None:
                    handler(events)
                elif ready == trios:
                    wait.due = True
            busy = len(batch) > wait.due
            if self._resumed or self._afterwards:
                self._finish(batch)
                busy = True
            now = perf_counter()
            alone = not (busy or wait.due or runnable)
            if self._later and (alone or now >= self._others_until):
                self._later.popleft()(now + (_LONG_TURN if alone else _SHORT_TURN))
                now, busy = perf_counter(), True
                self._others_until = now + _TURN
            happened = happened or busy or wait.due
            if wait.due or runnable:
                # Who has more to do has a turn, in which what trio has to do may grow to more than one thing.
                turn_ends = turn_ends or now + _TURN
                if now >= turn_ends or not busy:
                    return happened
                patience = 0
            elif now >= ends:
                return happened
            else:
                patience = 0 if self._resumed or self._afterwards or self._later else ends - now

    async def _run_as_task(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_resumed)
            task_status.started()
            await self._run_events()

    async def _run_events(self) -> None:
        poll, handlers, descriptor = self._epoll.poll, self._handlers, self._epoll.fileno()
        batch: Sequence[tuple[int, int]] = ()
        until = 0.0
        while True:
            if not batch and not self._resumed and not self._afterwards and not self._later:
                self._asleep = True
                await trio.lowlevel.wait_readable(descriptor)
                self._asleep = False
                until = self._look_at_the_crowd() + _TURN
            elif perf_counter() >= until:
                await trio.lowlevel.checkpoint()
                until = self._look_at_the_crowd() + _TURN
            batch = poll(0, BATCH)
            for ready, events in batch:
                # An earlier callback of this batch may have ended this connection.
                handler = handlers.get(ready)
                if handler is not None:
                    handler(events)
            self._finish(batch)
            if self._later:
                self._later.popleft()(0.0)

    def _finish(self, batch: Sequence[tuple[int, int]]) -> None:
        """Do what is to be done behind a batch."""
        if self._resumed:
            self._heard.update(batch)
            self._drain_resumed()
            self._look_at_the_crowd()
        if self._afterwards:
            self._do_afterwards()

    def _do_afterwards(self) -> None:
        calls, self._afterwards = self._afterwards, []
        for call in calls:
            call()

    def _look_at_the_crowd(self) -> float:
        """Begin a new window where the last one has passed; returns now."""
        now = perf_counter()
        if now >= self._window_ends:
            self.crowded = len(self._heard) > _FEW
            self._heard.clear()
            self._window_ends = now + _WINDOW
        return now

    async def _run_resumed(self) -> None:
        # A connection's owner may resume it outside any batch, while the loop above sleeps in the kernel.
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            while self._resumed or self._afterwards or self._later:
                self._drain_resumed()
                self._do_afterwards()
                if self._later:
                    self._later.popleft()(0.0)
                await trio.lowlevel.checkpoint()

    def _drain_resumed(self) -> None:
        # Swapped first: who is resumed again meanwhile waits for the next round, or one stream would starve the others.
        batch, self._resumed = self._resumed, {}
        for descriptor, handler in batch.items():
            if self._handlers.get(descriptor) is handler:
                handler(0)
