"""The time of day a mesh goes by: it runs as ever, from wherever the test has put it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from meshproxy.testing.fault import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Callable, as every wall clock of the house; `moved` is called after each move, and returns when all know of it.

    Only certificates and grants end by it. Timeouts are waited for as ever.
    """

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved = moved
        self._ahead = timedelta()

    def __repr__(self) -> str:
        return f"<Clock {self():%Y-%m-%dT%H:%M:%SZ}>"

    def __call__(self) -> datetime:
        """Return the present time (aware, UTC)."""
        return datetime.now(UTC) + self._ahead

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move on, or (negative) back. What ends by it has ended when this returns."""
        self._put(self._ahead + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))

    def set(self, moment: datetime) -> None:
        """Go on from this moment (aware): for allow-lists with dates in them, so that a test says the same for ever."""
        if moment.tzinfo is None:
            raise MeshError(f"{moment.isoformat()} has no offset: write datetime(..., tzinfo=UTC)")
        self._put(moment - datetime.now(UTC))

    def _put(self, ahead: timedelta) -> None:
        self._ahead = ahead
        self._moved()
