"""What drives the HTTP connections of a listener, whom it tells, and how each of them ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshproxy.http.exchange import Exchange
    from meshproxy.inbound.deadlines import Patience
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.pool import UpstreamConnection
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.sweep import Sweeper

# What exchanges are timed by. Deadlines go by trio's clock, but asking that takes ten times as long.
clock = time.perf_counter


class Outcome(Enum):
    """How a driven connection ended."""

    CLOSED = auto()
    ABORTED = auto()
    UPGRADED = auto()
    AGED = auto()


@dataclass(frozen=True, slots=True)
class Machinery:
    """What drives all connections of a listener: the engine, the clock, and what they are given of each."""

    engine: Readiness
    sweeper: Sweeper
    patience: Patience


class Teller(Protocol):
    """Who is told what happens on one connection."""

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Take an exchange that is over; `upstream` is where it went, if anywhere."""

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        """As `finished`, of a request that the upstream has answered whole, in one piece."""

    def upstream_failed(self, failure: FailedAttempt) -> None:
        """Take an attempt at an upstream that failed."""
