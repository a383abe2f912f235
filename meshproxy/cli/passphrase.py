"""Where a passphrase may come from: a file only we can read, stdin, a terminal; never argv or environment."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from ca.permissions import key_mode_fault
from meshproxy.cli.terminal import fail, os_error_words

if TYPE_CHECKING:
    from pathlib import Path

STDIN: Final = "-"
_LONGEST: Final = 1023  # bytes; what OpenSSL's PEM callbacks take


def from_source(source: str) -> bytes:
    """The passphrase in the file named `source`, or on standard input for `-`: its first line, without the line end.

    Ends the command (exit 2) when the file cannot be read, is open to others, or holds no usable passphrase.
    """
    if source == STDIN:
        if sys.stdin.isatty():
            return from_terminal(twice=False)
        return _first_line(sys.stdin.buffer.read(_LONGEST + 3), "standard input")
    try:
        with open(source, "rb", buffering=0) as file:  # noqa: PTH123 - the open file is judged, not its name
            status = os.fstat(file.fileno())
            fault = key_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()})
            content = b"" if fault else file.read(_LONGEST + 3)
    except OSError as error:
        fail(f"the passphrase file cannot be read: {os_error_words(error)}")
    if fault:
        fail(f"the passphrase file {source} has {fault}; run chmod 600 {source}")
    return _first_line(content, source)


def from_terminal(*, twice: bool) -> bytes:
    """Ask the person at the terminal, without echo; a second time to be sure when a new key is sealed with it."""
    answer: str = click.prompt("Passphrase of the CA", hide_input=True, confirmation_prompt=twice, err=True)
    return _first_line(answer.encode(), "the terminal")


def someone_is_there() -> bool:
    """Whether there is a person to ask: standard input is a terminal."""
    return sys.stdin.isatty()


def _first_line(content: bytes, source: str | Path) -> bytes:
    line = content.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        fail(f"{source} holds no passphrase (its first line is empty)")
    if len(line) > _LONGEST:
        fail(f"{source} holds a passphrase longer than {_LONGEST} bytes; choose a shorter one")
    return line
