"""structlog for everything that is news: JSON lines, or a readable form when a person is watching."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from meshproxy.telemetry.structured import structlog
from meshproxy.telemetry.text import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from meshproxy.telemetry.writer import LogWriter

Logger = structlog.typing.FilteringBoundLogger


class LogStyle(StrEnum):
    """How lines look."""

    JSON = "json"
    CONSOLE = "console"


LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogLevel:
    """From which level on events are logged; may be changed at any time. Access lines have none."""

    def __init__(self) -> None:
        self._word = "info"
        self._least = logging.INFO

    def __repr__(self) -> str:
        return f"<LogLevel {self._word}>"

    @property
    def word(self) -> str:
        """It in a word of `LEVELS`."""
        return self._word

    def set(self, word: str) -> None:
        """Log from this level on; raises KeyError for what is none."""
        self._word, self._least = word, LEVELS[word]

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop what is below it, as a processor of structlog."""
        if LEVELS.get(method, logging.ERROR) < self._least:
            raise structlog.DropEvent
        return event


class _WriterLogger:
    """What structlog calls when a line is ready."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.put(line.encode() + b"\n")

    debug = info = warning = error = critical = msg


def make_logger(
    writer: LogWriter, style: LogStyle, *, colors: bool = False, level: LogLevel | None = None
) -> FilteringBoundLogger:
    """Return a logger whose lines go to `writer`; from level info on, or from `level` on."""
    common: list[Processor] = [
        level or LogLevel(),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        make_printable,
    ]
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="ts", pad_event_to=34)
        if style is LogStyle.CONSOLE
        else structlog.processors.JSONRenderer(serializer=_to_json)
    )
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _WriterLogger(writer),
        processors=[*common, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger


def make_printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape every string value, so that no peer can write a line of its own into the log."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def _to_json(event: EventDict, **_options: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
