"""The append-only record of every certificate issued: one JSON line each, on disk before the certificate is handed out.

A line is written whole (O_APPEND, one lock among issuers) and fsynced, so a certificate without a line cannot exist; a
line without a certificate can (a crash in between), and is harmless. A crash of the machine may tear the last line:
the next one starts on a line of its own, and reading reports what it could not read.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from typing import TYPE_CHECKING, Literal

import msgspec

from ca import storage

if TYPE_CHECKING:
    from pathlib import Path


class Issuance(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. Times are UTC; `serial` and `fingerprint` (SHA-256 of the DER) are lower-case hex."""

    at: datetime
    kind: Literal["root", "intermediate", "svid"]
    id: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    issuer: str  # the short name of the authority's directory, 0001-3f9a12cd
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    uid: int | None = None  # who ran the command


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a ledger file holds: the readable lines, and a phrase for each line that is torn or damaged."""

    issuances: tuple[Issuance, ...]
    faults: tuple[str, ...]


def append(path: Path, *issuances: Issuance) -> None:
    """Add one line per issuance to the ledger at `path`, made (0600) if missing, durable when this returns.

    Raises OSError when it cannot be written; the file is then as it was before.
    """
    encoded = b"".join(msgspec.json.encode(each) + b"\n" for each in issuances)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two issuers must not interleave, nor truncate each other
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            storage.write_all(descriptor, (b"\n" if torn else b"") + encoded)
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)  # a half line would be taken for a torn one
            raise
    finally:
        os.close(descriptor)
    storage.sync_directory(path.parent)


def read(path: Path) -> Ledger:
    """Read the ledger at `path`, skipping and reporting lines that cannot be read. Raises OSError if missing."""
    issuances: list[Issuance] = []
    faults: list[str] = []
    content = path.read_bytes()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line:
            continue
        try:
            issuances.append(msgspec.json.decode(line, type=Issuance))
        except msgspec.DecodeError as error:
            last = number == content.count(b"\n") + 1
            faults.append(f"line {number} is {'torn (a crash while it was written)' if last else f'damaged: {error}'}")
    return Ledger(tuple(issuances), tuple(faults))
