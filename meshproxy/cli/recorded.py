"""Logs as the commands read them: streamed, gigabytes of them, with a progress bar for whoever watches."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Final

import click

from meshproxy.cli.terminal import fail, os_error_words
from meshproxy.policy.records import records_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshproxy.policy.records import Record

_LONGEST_LINE: Final = 1 << 20
_EVERY: Final = 4 << 20  # bytes between two moves of the bar

log_option: Final = click.option(
    "--log", "logs", multiple=True, required=True, metavar="LOG", help="A sidecar's log, - is stdin; repeatable."
)


def records_of(logs: tuple[str, ...]) -> Iterator[Record]:
    """What sidecars have said in these logs, one after the other. Ends the command when one is missing."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=sum(map(_size, logs)), label="reading", file=sys.stderr, hidden=hidden) as bar:
        for log in logs:
            try:
                with click.open_file(log, "rb") as stream:
                    yield from records_in(_lines(stream, bar.update))
            except OSError as error:
                fail(f"{log} cannot be read: {os_error_words(error)}")


def _lines(stream: IO[bytes], moved: Callable[[int], None]) -> Iterator[bytes]:
    since = 0
    while line := stream.readline(_LONGEST_LINE):
        since += len(line)
        if since >= _EVERY:
            moved(since)
            since = 0
        yield line
    moved(since)


def _size(log: str) -> int:
    try:
        return 0 if log == "-" else os.stat(log).st_size  # noqa: PTH116 - a name from the command line
    except OSError:
        return 0  # reading it will say so
