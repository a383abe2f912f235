"""The hash chain: each line says its number, and the SHA-256 of the line before, its newline included; pure.

`sed -n 7p audit.jsonl | sha256sum` is what line 8 has as `prev`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from ca import json_text

_NOTHING: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain goes: the number of its last line, and that line's hash in hex."""

    seq: int = 0
    hash: str = _NOTHING

    def after(self, line: bytes) -> Head:
        """The head once `line`, the next, stands there."""
        return Head(self.seq + 1, hash_of(line))


class Link(msgspec.Struct, frozen=True):
    """What holds a line to the one before."""

    seq: int
    prev: str

    def follows(self, head: Head) -> bool:
        """Whether it is the next line there."""
        return self.seq == head.seq + 1 and self.prev == head.hash


_links: Final = msgspec.json.Decoder(Link)


def hash_of(line: bytes) -> str:
    """The hash of a line as it stands in the file, with its newline."""
    return hashlib.sha256(line).hexdigest()


def chained(head: Head, body: bytes) -> bytes:
    """The line that says `body`, a JSON object with at least one member, after `head`."""
    return b'{"seq":%d,"prev":"%b",%b\n' % (head.seq + 1, head.hash.encode(), body[1:])


def read_link(line: bytes) -> Link | None:
    """What holds this line to the one before; None if it is no line of a chain."""
    try:
        return json_text.read_by(_links, line)
    except ValueError:
        return None
