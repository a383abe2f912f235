"""A log that is listened to instead of written: what was told, as structlog had it before rendering."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog
from structlog.testing import LogCapture

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger


class Heard:
    """The events of one log."""

    def __init__(self, capture: LogCapture) -> None:
        self._capture = capture

    def __repr__(self) -> str:
        return f"<Heard {self.names}>"

    @property
    def events(self) -> list[EventDict]:
        return list(self._capture.entries)

    @property
    def names(self) -> list[str]:
        return [str(event["event"]) for event in self._capture.entries]

    def forget(self) -> None:
        """Hear anew, as after an error that was meant."""
        self._capture.entries.clear()

    def named(self, name: str) -> list[EventDict]:
        return [event for event in self._capture.entries if event["event"] == name]


def listening_log() -> tuple[FilteringBoundLogger, Heard]:
    """A logger from level info on, and what it heard."""
    capture = LogCapture()
    logger: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
    )
    return logger, Heard(capture)
