"""What happened lately, kept for whoever looks: the series, and the feed of what is news each second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from meshproxy.admin.feed import Feed
from meshproxy.admin.picture import tick
from meshproxy.telemetry.facts import news
from meshproxy.telemetry.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshproxy.telemetry.facts import Facts
    from meshproxy.telemetry.flows import Edge, Point
    from meshproxy.wire.relay import Wall

_STEP = 1.0


class Chronicle:
    """The past of one sidecar, in the process that has its admin server."""

    def __init__(self, wall: Wall) -> None:
        now = wall().timestamp()
        self.series = Series(now)
        self.feed = Feed(now)
        self.facts: Facts | None = None
        self.since = now  # in this state
        self.loop_lag = 0.0

    def __repr__(self) -> str:
        return f"<Chronicle {self.series!r} {self.feed!r}>"

    def second(self, now: float, happened: Iterable[tuple[Edge, Point]], facts: Facts) -> None:
        """Take what happened in the second before `now` (since 1970), and how it is then."""
        self._note(now, facts)
        found = self.series.take(now, happened)
        if self.feed.is_heard:
            gauges = {"open_connections": float(facts.open_connections), "loop_lag": round(self.loop_lag, 6)}
            self.feed.tell("tick", tick(now, found, gauges))
        elif found:
            self.feed.pass_over()

    def _note(self, now: float, facts: Facts) -> None:
        before, self.facts = self.facts, facts
        for marker in news(before, facts, now):
            self.series.mark(marker)
            self.feed.tell("marker", msgspec.json.encode(marker))
        if before is None or before.state != facts.state:
            self.since = now
            told = {"now": now, "state": facts.state, "reason": facts.reason, "since": now}
            self.feed.tell("state", msgspec.json.encode(told))


async def each_second(wall: Wall, do: Callable[[float, float], None]) -> None:
    """Call `do` when a second of the wall clock has just passed, until cancelled.

    It is told the time (since 1970), and by how many seconds the loop was late to call it.
    """
    while True:
        due = trio.current_time() + _STEP - wall().timestamp() % _STEP
        await trio.sleep_until(due)
        do(wall().timestamp(), max(trio.current_time() - due, 0.0))
