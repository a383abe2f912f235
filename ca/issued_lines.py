"""`issued.jsonl`, the record that earlier versions kept: one JSON line for each certificate. Only read any more.

A crash of the machine may have torn the last line; what cannot be read is told and not guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from typing import Literal

import msgspec

from ca import json_text


class IssuedLine(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. `issuer` is the name of a directory below `authorities/`; hex is lower-case."""

    at: datetime
    kind: Literal["root", "intermediate", "svid"]
    id: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    issuer: str
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class IssuedLines:
    """What such a file holds: the readable lines, and a phrase for each that is torn or damaged."""

    lines: tuple[IssuedLine, ...]
    faults: tuple[str, ...]


def read(content: bytes) -> IssuedLines:
    """Read the whole file."""
    lines: list[IssuedLine] = []
    faults: list[str] = []
    rows = content.split(b"\n")
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            lines.append(json_text.read(row, IssuedLine))
        except ValueError as error:
            torn = number == len(rows)
            faults.append(f"line {number} is {'torn (a crash while it was written)' if torn else f'damaged: {error}'}")
    return IssuedLines(tuple(lines), tuple(faults))
