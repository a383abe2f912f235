"""Where everything that happens is told, and what a sidecar tells at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from meshproxy.telemetry.events import LogLevel
from meshproxy.telemetry.record import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshproxy.runtime.reception import Reception
    from meshproxy.settings.load import Configuration
    from meshproxy.telemetry.access import AccessLog
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.telemetry.wanted import Wanted
    from meshproxy.telemetry.writer import LogWriter
    from meshproxy.wire.address import Address


@dataclass(frozen=True, slots=True)
class Telling:
    """The log, the access log, who writes them, and the numbers."""

    log: Logger
    access: AccessLog
    writer: LogWriter
    metrics: Metrics
    log_level: LogLevel = field(default_factory=LogLevel)

    def recorder(self, monotonic: Callable[[], float], wanted: Wanted) -> Recorder:
        """Return who is told what happens on listeners, and tells what is wanted of it."""
        return Recorder(self.metrics, self.log, self.access, monotonic, wanted)


# The time certificates go by. A partial, for each request asks: a function of our own takes 0.1 us more.
wall_clock = partial(datetime.now, UTC)


def announce(
    log: Logger,
    file: str,
    reception: Reception,
    listeners: Mapping[str, Address],
    configuration: Configuration,
    **more: object,
) -> None:
    """Say that it runs, where it listens, and which rules grant nothing any more."""
    places = {name: str(address) for name, address in listeners.items()}
    log.info("started", file=file, admin=str(reception.address), listeners=places, **more)
    policies = {policy.file: policy for policy in configuration.policies.values()}
    for policy in policies.values():
        for rule in policy.expired(wall_clock()):
            log.warning("grant_expired", rule=rule.name, policy=f"{policy.file}:{rule.line}", expired=str(rule.expires))
