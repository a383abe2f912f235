"""What happened lately, kept for whoever looks: the series, and the feed of what is news each second."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
import trio

from meshproxy.admin.feed import Feed
from meshproxy.admin.picture import tick
from meshproxy.telemetry.denials import Denials, Refused
from meshproxy.telemetry.facts import news
from meshproxy.telemetry.series import Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.telemetry.facts import Facts
    from meshproxy.telemetry.flows import Edge, Point
    from meshproxy.wire.relay import Wall

_STEP = 1.0
_MOST_REFUSED = 16  # waiting to be explained
_AT_ONCE = 32  # edges that are written in one turn of the loop: 0.4 ms


class Chronicle:
    """The past of one sidecar, in the process that has its admin server."""

    def __init__(self, wall: Wall) -> None:
        now = wall().timestamp()
        self.series = Series(now)
        self.feed = Feed(now)
        self.denials = Denials()
        self.facts: Facts | None = None
        self._refused_out, self.refused = trio.open_memory_channel[Refused](_MOST_REFUSED)
        self.since = now  # in this state

    def __repr__(self) -> str:
        return f"<Chronicle {self.series!r} {self.feed!r}>"

    async def second(self, now: float, happened: Iterable[tuple[Edge, Point]], facts: Facts, loop_lag: float) -> None:
        """Take what happened in the second before `now` (since 1970), and how it is then; `loop_lag` in seconds.

        In several turns of the loop where there are many edges: traffic goes on in between.
        """
        self._note(now, facts)
        found = list(self.series.place(now, happened).items())
        for start in range(0, len(found), _AT_ONCE):
            await trio.lowlevel.checkpoint()
            self.series.write(now, found[start : start + _AT_ONCE])
        await trio.lowlevel.checkpoint()
        self.series.close(now)
        if self.feed.is_heard:
            gauges = {"open_connections": float(facts.open_connections), "loop_lag": round(loop_lag, 6)}
            self.feed.tell("tick", tick(now, found, gauges))
        elif found:
            self.feed.pass_over()

    def refuse(self, refused: Iterable[Refused], beyond: int) -> None:
        """Take who was refused lately; `refused` of this chronicle tells whoever explains it to those who listen."""
        rows = self.denials.take(refused, beyond)
        if self.feed.is_heard:
            for row in rows:
                with contextlib.suppress(trio.WouldBlock):  # too many for one second: /denials has them
                    self._refused_out.send_nowait(row)

    def _note(self, now: float, facts: Facts) -> None:
        before, self.facts = self.facts, facts
        for marker in news(before, facts, now):
            self.series.mark(marker)
            self.feed.tell("marker", msgspec.json.encode(marker))
        if before is None or before.state != facts.state:
            self.since = now
            told = {"now": now, "state": facts.state, "reason": facts.reason, "since": now}
            self.feed.tell("state", msgspec.json.encode(told))


async def next_second(wall: Wall) -> float:
    """Wait until a second of the wall clock has just passed; returns the time (since 1970) then."""
    await trio.sleep(_STEP - wall().timestamp() % _STEP)
    return wall().timestamp()
