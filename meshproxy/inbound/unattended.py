"""Connections that go on without a task: somebody must know of them, to wait for their end or to cut them."""

from __future__ import annotations

from typing import Protocol

import trio


class Unattended(Protocol):
    """A connection that goes on without a task."""

    def cut(self) -> None:
        """End it at once, in the middle of whatever is said; it leaves. Must not raise."""


class UnattendedConnections:
    """Those of one acceptor; bounded by its cap."""

    def __init__(self) -> None:
        self._open: set[Unattended] = set()
        self._none_left = trio.Event()

    def __repr__(self) -> str:
        return f"<UnattendedConnections {len(self._open)}>"

    def add(self, connection: Unattended) -> None:
        """Know of one more."""
        self._open.add(connection)

    def discard(self, connection: Unattended) -> None:
        """Know of it no longer; idempotent."""
        self._open.discard(connection)
        if not self._open:
            self._none_left.set()

    async def wait_until_none(self) -> None:
        """Wait until there is none."""
        while self._open:
            self._none_left = trio.Event()
            await self._none_left.wait()

    def cut(self) -> None:
        """Cut all of them."""
        for connection in list(self._open):
            connection.cut()
