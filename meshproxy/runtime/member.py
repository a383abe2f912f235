"""The place of one worker in a sidecar, and where it is in its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.errors import Problem
    from meshproxy.runtime.control import Report
    from meshproxy.runtime.life import Life


class State(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    WAITING = "waiting"  # to be started again
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Member:
    """The place of one worker, filled again and again."""

    number: int  # from 0
    state: State = State.STARTING
    restarts: int = 0
    life: Life | None = None
    generation: int = 0  # of the configuration it has
    settled: trio.Event = field(default_factory=trio.Event)  # it has served, or failed to, once
    problems: Sequence[Problem] = ()  # why it cannot serve

    @property
    def report(self) -> Report | None:
        """What it said last of itself."""
        return None if self.life is None else self.life.report
