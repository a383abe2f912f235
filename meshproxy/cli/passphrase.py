"""Where a passphrase may come from: a file only we can read, stdin, a terminal; never argv or environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from ca.passphrase import LONGEST, PassphraseError, first_line, read_passphrase_file
from meshproxy.cli.terminal import fail, os_error_words

STDIN: Final = "-"


def from_source(source: str) -> bytes:
    """The passphrase in the file named `source`, or on standard input for `-`: its first line, without the line end.

    Ends the command (exit 2) when the file cannot be read, is open to others, or holds no usable passphrase.
    """
    if source == STDIN and sys.stdin.isatty():
        return from_terminal(twice=False)
    try:
        if source == STDIN:
            return first_line(sys.stdin.buffer.read(LONGEST + 3), "standard input")
        return read_passphrase_file(Path(source))
    except PassphraseError as error:
        fail(str(error))
    except OSError as error:
        fail(f"the passphrase file cannot be read: {os_error_words(error)}")


def from_terminal(*, twice: bool) -> bytes:
    """Ask the person at the terminal, without echo; a second time to be sure when a new key is sealed with it."""
    answer: str = click.prompt("Passphrase of the CA", hide_input=True, confirmation_prompt=twice, err=True)
    try:
        return first_line(answer.encode(), "the terminal")
    except PassphraseError as error:
        fail(str(error))


def someone_is_there() -> bool:
    """Whether there is a person to ask: standard input is a terminal."""
    return sys.stdin.isatty()
