"""The log of a mesh: kept as it is told, instead of written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from meshproxy.telemetry.events import make_printable
from meshproxy.telemetry.structured import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

    from meshproxy.telemetry.events import Logger


class Heard:
    """All events of a mesh in the order they were told, each with `event`, `level` and `sidecar`."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def __repr__(self) -> str:
        return f"<Heard {len(self.events)} events>"

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> NoReturn:
        """Take an event: the last processor of a logger."""
        self.events.append({"level": level, **event})
        raise structlog.DropEvent

    def logger(self) -> Logger:
        """Return a logger that tells here."""
        logger: Logger = structlog.wrap_logger(
            None,
            processors=[structlog.processors.format_exc_info, make_printable, self],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        return logger
