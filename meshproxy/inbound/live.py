"""The HTTP connections that are open now, to be asked to end when the sidecar drains."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Drainable(Protocol):
    """A connection that can end by itself, between two messages."""

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without one."""


class Live:
    """Bounded by the connection caps of the listeners."""

    def __init__(self) -> None:
        self._open: set[Drainable] = set()
        self._grace: float | None = None  # set: draining

    def __repr__(self) -> str:
        return f"<Live open={len(self._open)} draining={self._grace is not None}>"

    @contextlib.contextmanager
    def holding(self, connection: Drainable) -> Iterator[None]:
        """Know of `connection` meanwhile; one that comes during a drain is asked to end at once."""
        self._open.add(connection)
        if self._grace is not None:
            connection.drain(self._grace)
        try:
            yield
        finally:
            self._open.discard(connection)

    def drain(self, grace: float) -> None:
        """Ask all to end, those that are open and those still to come; see `Drainable`."""
        self._grace = grace
        for connection in list(self._open):
            connection.drain(grace)
