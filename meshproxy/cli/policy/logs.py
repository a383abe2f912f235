"""The logs of sidecars, as the commands about allow-lists read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.reading import lines, progress
from meshproxy.cli.terminal import fail
from meshproxy.policy.records import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.policy.records import Record

_LONGEST_LINE: Final = 1 << 20

log_option: Final = click.option(
    "--log", "logs", multiple=True, required=True, metavar="LOG", help="A sidecar's log, - is stdin; repeatable."
)


def records_of(logs: tuple[str, ...], *, prints: bool = False) -> Iterator[Record]:
    """What sidecars have said in these logs, one after the other. Ends the command when one is missing.

    `prints` as for `progress`.
    """
    with progress(sum(map(_size, logs)), prints=prints) as moved:
        for log in logs:
            try:
                with click.open_file(log, "rb") as stream:
                    yield from records_in(lines(stream, moved, longest=_LONGEST_LINE))
            except OSError as error:
                fail(f"{log} cannot be read: {error.strerror}")


def _size(log: str) -> int:
    try:
        return 0 if log == "-" else os.stat(log).st_size  # noqa: PTH116 - a name from the command line
    except OSError:
        return 0  # reading it will say so
