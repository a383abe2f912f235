"""What stands in an audit log, line by line: one JSON object each, as documented in docs/audit.md; pure.

Every line begins with `seq` and `prev`, which `chain` puts there; what is defined here is the rest of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from ca import json_text

LONGEST: Final = 1 << 20  # bytes of one line; the longest that is written is a tenth of it (a target of 64 KiB)


class Why(StrEnum):
    """What a file, or a checkpoint, was made for."""

    NEW = "new"  # the first line there ever was
    RESTARTED = "restarted"  # a process has taken the file up again
    ROTATED = "rotated"  # the file before it was full
    INTERVAL = "interval"  # there was news, and it was time
    STOPPED = "stopped"  # the process ended in order


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="decision", gc=False):
    """What an allow-list said about one request, or (no method) about one connection."""

    ts: str
    listener: str
    caller: str
    serial: str  # of the caller's certificate, in hex
    peer: str
    id: str  # of the connection, as in its access lines
    request_id: str = ""
    method: str = ""
    path: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""
    mode: str = ""
    policy: str = ""
    cut: bool = False  # a stream that was let through before, and was ended by this


class Opened(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="opened"):
    """A process writes into this file from here on.

    `chain` names the chain: the same in all its files. `cut_*`: what a crash has left of a line, just before this one.
    """

    ts: str
    chain: str
    why: Why
    version: str = ""
    cut_bytes: int = 0
    cut_sha256: str = ""


class Missing(msgspec.Struct, frozen=True, tag_field="event", tag="missing"):
    """So many decisions could not be recorded before this line; whatever they were about was refused."""

    ts: str
    count: int


class Checkpoint(msgspec.Struct, frozen=True, tag_field="event", tag="checkpoint"):
    """The signature over all lines before this one: a flattened JWS (RFC 7515 section 7.2.2)."""

    ts: str
    payload: str
    protected: str
    signature: str


Body = Decision | Opened | Missing | Checkpoint

_encoder = msgspec.json.Encoder()
_bodies: Final[msgspec.json.Decoder[Body]] = msgspec.json.Decoder(Body)


def encode(body: Body) -> bytes:
    """Return it as an object of JSON, for `chain.chained`."""
    return _encoder.encode(body)


def decode(line: bytes) -> Body:
    """Read a line. Raises ValueError for what is none."""
    return json_text.read_by(_bodies, line)


def read_body(line: bytes) -> Body | None:
    """Do as `decode`; None for what is no line."""
    try:
        return decode(line)
    except ValueError:
        return None


def opened_by(line: bytes) -> Opened | None:
    """The line that begins a file; None for any other."""
    body = read_body(line)
    return body if isinstance(body, Opened) else None
