"""Who may open an upstream connection, and who waits for one that others have: bounded, in order, with a deadline."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import trio

from meshproxy.errors import Failure

_C = TypeVar("_C")  # what a connection is


class NoUpstreamConnection(Exception):
    """No upstream connection could be had: the failure to answer with, and why, in words for our log.

    `limit` is the key of the settings that is why, if one is.
    """

    def __init__(self, failure: Failure, detail: str, *, limit: str = "") -> None:
        super().__init__(detail)
        self.failure = failure
        self.limit = limit


class Waiter(Generic[_C]):
    """Somebody in the queue; `served` once it is his turn, with a connection or (None) with leave to open one."""

    __slots__ = ("connection", "served")

    def __init__(self) -> None:
        self.served = trio.Event()
        self.connection: _C | None = None


class Queue(Generic[_C]):
    """`most` connections, `longest` who wait, each `within` so many seconds."""

    def __init__(self, *, most: int, longest: int, within: float) -> None:
        self._most = most
        self._longest = longest
        self._within = within
        self.open = 0  # in use, at rest, and being opened
        self.waiting: OrderedDict[Waiter[_C], None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Queue open={self.open}/{self._most} waiting={len(self.waiting)}/{self._longest}>"

    @property
    def refuses(self) -> str:
        """The key of the limit by which the next one is refused; empty: he may open one, or wait."""
        if self.open < self._most or len(self.waiting) < self._longest:
            return ""
        return "max_upstream_queue" if self._longest else "max_upstream_connections"

    async def turn(self) -> _C | None:
        """Wait for a connection that somebody gives back, or for leave to open one (None), which then counts as open.

        Raises NoUpstreamConnection when the queue is full, or when it took too long.
        """
        if self.open < self._most and not self.waiting:
            self.open += 1
            return None
        if limit := self.refuses:
            detail = f"{self.open} upstream connections, and {len(self.waiting)} requests wait for one"
            raise NoUpstreamConnection(Failure.LIMIT, detail, limit=limit)
        waiter = Waiter[_C]()
        self.waiting[waiter] = None
        with trio.move_on_after(self._within):
            try:
                await waiter.served.wait()
            finally:
                self.waiting.pop(waiter, None)
        if not waiter.served.is_set():
            detail = f"none of {self.open} upstream connections was free within {self._within:g} s"
            raise NoUpstreamConnection(Failure.LIMIT, detail, limit="upstream_queue_timeout")
        return waiter.connection

    def hand(self, connection: _C) -> None:
        """Give a connection to whoever waits for the longest; somebody must be waiting."""
        waiter, _ = self.waiting.popitem(last=False)
        waiter.connection = connection
        waiter.served.set()

    def left(self) -> None:
        """Take that one that counted as open is gone: somebody else may open one."""
        if self.waiting:
            waiter, _ = self.waiting.popitem(last=False)
            waiter.served.set()
        else:
            self.open -= 1
