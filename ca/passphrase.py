"""Reading a passphrase from a file: only one that nobody else can read, and only its first line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ca.permissions import key_mode_fault

if TYPE_CHECKING:
    from pathlib import Path

LONGEST: Final = 1023  # bytes; what OpenSSL's PEM callbacks take


class PassphraseError(ValueError):
    """A passphrase that cannot be taken; the text is a sentence without the passphrase in it."""


def read_passphrase_file(path: Path) -> bytes:
    """Return the first line of a file, without its line end.

    Raises PassphraseError when others may read the file or it holds no usable passphrase, OSError when it cannot be
    read.
    """
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())  # the open file is judged, not its name
        fault = key_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()})
        if fault:
            raise PassphraseError(f"the passphrase file {path} has {fault}; run chmod 600 {path}")
        return first_line(file.read(LONGEST + 3), str(path))


def first_line(content: bytes, source: str) -> bytes:
    """Return the passphrase in `content`; raises PassphraseError naming `source` when it is empty or too long."""
    line = content.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        raise PassphraseError(f"{source} holds no passphrase (its first line is empty)")
    if len(line) > LONGEST:
        raise PassphraseError(f"{source} holds a passphrase longer than {LONGEST} bytes; choose a shorter one")
    return line
