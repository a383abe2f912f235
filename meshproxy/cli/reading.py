"""Long files as the commands read them: line by line, gigabytes of them, with a progress bar for whoever watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EVERY: Final = 4 << 20  # bytes between two moves of the bar


@contextmanager
def progress(size: int, *, prints: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how much of `size` bytes is read, on a terminal; what is yielded takes how many more were.

    `prints`: what is found is printed meanwhile, which is to be seen there as well, and not between pieces of a bar.
    Nobody knows the size of what comes through a pipe: it is 0, and nothing is shown.
    """
    hidden = not size or not sys.stderr.isatty() or (prints and sys.stdout.isatty())
    with click.progressbar(length=size, label="reading", file=sys.stderr, hidden=hidden) as bar:
        yield bar.update


def lines(stream: IO[bytes], moved: Callable[[int], None], *, longest: int) -> Iterator[bytes]:
    """Yield line by line, each with its end; one of more than `longest` bytes comes in pieces."""
    since = 0
    while line := stream.readline(longest):
        since += len(line)
        if since >= _EVERY:
            moved(since)
            since = 0
        yield line
    moved(since)
