"""A coroutine that goes on in callbacks of the engine, and in a task of trio from where it needs one.

A task that is spawned, woken twice and let go of takes a third of what Python does for a connection that comes, shakes
hands, says little and leaves; and of the waits in between only two are for a socket, of which the engine can tell as
well. So a connection begins as a fiber. What it may wait for as such is `readable` and a `Signal`; whatever else takes
time (a dial that is not over at once, a name, a pause) needs trio: who is about to wait for that says `in_task` first,
and the very same coroutine goes on in a task, from that line. Most never come to one.

All three do what trio's own would where there is a task already, so that whoever uses them need not know.
"""

from __future__ import annotations

import types
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Generator

    from meshproxy.wire.readiness import Readiness

_PAUSE: Final = object()  # what a fiber yields that somebody will wake
_TASK: Final = object()  # and one that needs a task

_FOREIGN: Final = "a fiber waits for something of trio's: `in_task` must come before that"


class Keeper(Protocol):
    """Knows of fibers as long as they have no task, so that somebody can wait for their end, or cut them."""

    def add(self, fiber: Fiber, /) -> None:
        """Know of one more."""

    def discard(self, fiber: Fiber, /) -> None:
        """Know of it no longer; idempotent."""


class Fiber:
    """One coroutine that runs, sooner or later, to its end: by itself, or in a task of `nursery`.

    It is stepped behind a batch of the engine and nowhere else. An exception of the coroutine ends the engine.
    """

    __slots__ = ("_coroutine", "_engine", "_fault", "_is_due", "_keeper", "_nursery", "_waits_for")

    def __init__(
        self, engine: Readiness, nursery: trio.Nursery, keeper: Keeper, coroutine: Coroutine[object, None, None]
    ) -> None:
        """Take a coroutine that has not begun; it does, soon."""
        self._engine = engine
        self._nursery = nursery
        self._keeper = keeper
        self._coroutine: Coroutine[object, None, None] | None = coroutine  # None: it is over, or a task's
        self._fault: BaseException | None = None  # to be raised where it waits
        self._waits_for: socket.socket | None = None
        self._is_due = False
        keeper.add(self)
        self.wake()

    def __repr__(self) -> str:
        return f"<Fiber alone={self._coroutine is not None} due={self._is_due}>"

    def wake(self) -> None:
        """Have it go on behind this batch; no-op once it is over or has a task."""
        if not self._is_due:
            self._is_due = True
            self._engine.afterwards(self._step)

    def interrupt(self, sock: socket.socket) -> None:
        """Raise trio.ClosedResourceError where it waits for this socket to become readable, as a task or not."""
        if self._coroutine is None:
            trio.lowlevel.notify_closing(sock)
        elif self._waits_for is sock and not self._is_due:
            self._fault = trio.ClosedResourceError()
            self.wake()

    def cut(self) -> None:
        """Have it end: it goes on in its nursery, which has been cancelled."""
        self._hand_over()

    def until_readable(self, sock: socket.socket) -> Generator[object, None, None]:
        """See `readable`."""
        try:
            self._engine.watch(sock, self._on_news)
            self._waits_for = sock
            yield _PAUSE
        finally:
            self._waits_for = None
            self._engine.forget(sock)

    def _on_news(self, _events: int) -> bool:
        self.wake()
        return True

    def _step(self) -> None:
        global _running  # noqa: PLW0603 - as trio's current task: what a coroutine awaits cannot be handed it
        coroutine, self._is_due = self._coroutine, False
        if coroutine is None:
            return
        fault, self._fault = self._fault, None
        asked: object = None
        _running = self
        try:
            asked = coroutine.send(None) if fault is None else coroutine.throw(fault)
            while asked is not _PAUSE and asked is not _TASK:
                asked = coroutine.throw(RuntimeError(_FOREIGN))
        except StopIteration:
            asked = None
        finally:
            _running = None
            if asked is None:
                self._coroutine = None
                self._keeper.discard(self)
        if asked is _TASK:
            self._hand_over()

    def _hand_over(self) -> None:
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            self._nursery.start_soon(_go_on, coroutine)
            self._keeper.discard(self)


_running: Fiber | None = None  # whose coroutine runs just now; None: it is a task's, or nobody's


class _Rest:
    """What is left of a coroutine that has begun elsewhere: `await` itself takes such a one for somebody else's."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[object, None, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[object, None, None]:
        return self._coroutine.__await__()


async def _go_on(coroutine: Coroutine[object, None, None]) -> None:
    await _Rest(coroutine)


@types.coroutine
def in_task() -> Generator[object, None, None]:
    """Have what follows run in a task of trio, if it does not already."""
    if _running is not None:
        yield _TASK


@types.coroutine
def readable(sock: socket.socket) -> Generator[object, None, None]:
    """Wait until a socket has something to read, or return early: only reading decides.

    Raises trio.ClosedResourceError when `interruption` says so.
    """
    fiber = _running
    if fiber is None:
        yield from trio.lowlevel.wait_readable(sock)  # noqa: ASYNC105 - it is
    else:
        yield from fiber.until_readable(sock)


def interruption(sock: socket.socket) -> Callable[[], None]:
    """Return what makes the coroutine that asks raise trio.ClosedResourceError if it waits for this socket by then."""
    fiber = _running
    return partial(trio.lowlevel.notify_closing if fiber is None else fiber.interrupt, sock)


class Signal:
    """Something that happens once, and that one coroutine waits for; as trio.Event, but for fibers too."""

    __slots__ = ("_is_set", "_wake")

    def __init__(self) -> None:
        self._is_set = False
        self._wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Signal set={self._is_set} awaited={self._wake is not None}>"

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Say that it has happened; idempotent."""
        self._is_set = True
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    @types.coroutine
    def wait(self) -> Generator[object, None, None]:
        """Wait until it has happened; no checkpoint if it has."""
        fiber = _running
        if fiber is not None and not self._is_set:
            self._wake = fiber.wake
            yield _PAUSE
        if not self._is_set:  # and this is a task by now
            event = trio.Event()
            self._wake = event.set
            yield from event.wait()
