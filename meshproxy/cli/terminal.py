"""What every command shares in speaking to a person or a program: failing, problems, JSON, colour."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, TextIO

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.errors import Problem


class Tone(Enum):
    """What a piece of text means; the colour follows from it (SGR codes, ECMA-48 8.3.117)."""

    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    STRONG = "1"
    FAINT = "2"


def fail(message: str, *, exit_code: int = 2) -> NoReturn:
    """End the command with one sentence on stderr, after the prefix `meshproxy: `; 2 is usage or unreadable input."""
    click.echo(f"meshproxy: {message}", err=True)
    raise SystemExit(exit_code)


def os_error_words(error: OSError) -> str:
    """An OSError as a phrase: the system's own words, and the file where the error knows it."""
    words = error.strerror or type(error).__name__
    return f"{error.filename}: {words}" if error.filename is not None else words


def print_problems(problems: Iterable[Problem]) -> None:
    """Print each problem on stderr, three lines each: where and what, what was expected, what to do."""
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        subject = f"{problem.where}: " if problem.where else ""
        click.echo(f"{paint(place, Tone.STRONG, on=sys.stderr)}: {subject}found {problem.found}", err=True)
        click.echo(f"    expected  {problem.expected}", err=True)
        click.echo(f"    remedy    {problem.remedy}", err=True)


def print_json(value: object) -> None:
    """Print a value of plain types, dataclasses or Structs on stdout as one indented JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def example(*lines: str) -> str:
    """The epilog of a command's help: commands to type, which click must not re-wrap (its mark is a backspace)."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def paint(text: str, tone: Tone, *, on: TextIO | None = None) -> str:
    """The text in the colour of its tone when `on` (default: stdout) is a terminal that wants colour, else as it is."""
    return f"\x1b[{tone.value}m{text}\x1b[0m" if wants_colour(on or sys.stdout) else text


def wants_colour(stream: TextIO) -> bool:
    """Whether colour belongs on this stream: a terminal, NO_COLOR unset or empty (no-color.org), not a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """Text from a stranger made safe for a terminal: all but printable ASCII escaped, so that it moves no cursor."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
