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


class Waiter(Protocol):
    """A connection that waits at a gate."""

    def go_on(self, *, insistently: bool) -> None:
        """Read on, even if the gate is shut when `insistently`."""


class Gate(Protocol):
    """Where callers of one listener wait while it is better to ask nothing."""

    @property
    def is_shut(self) -> bool:
        """Whether it is."""

    def hold(self, waiter: Waiter) -> None:
        """Have a connection go on when the gate opens, or when it has waited long enough."""


@dataclass(frozen=True, slots=True)
class Machinery:
    """What drives all connections of a listener: the engine, the clock, and what they are given of each."""

    engine: Readiness
    sweeper: Sweeper
    patience: Patience
    gate: Gate | None = None  # callers wait here for room in the audit log


class Teller(Protocol):
    """Who is told what happens on one connection."""

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Take an exchange that is over; `upstream` is where it went, if anywhere."""

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        """As `finished`, of a request that the upstream has answered whole, in one piece."""

    def upstream_failed(self, failure: FailedAttempt, exchange: Exchange) -> None:
        """Take an attempt at an upstream that failed, made for an exchange."""

    def waited(self, seconds: float) -> None:
        """Take how long an exchange has waited for an upstream connection that was not there."""

    def reached(self, limit: str) -> None:
        """Take that the connection has reached a limit, by its key in the settings, beside those of exchanges."""
