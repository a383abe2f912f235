"""Just enough of WebSocket (RFC 6455) for the shop: the handshake's answer, and short frames that are messages."""

from __future__ import annotations

import base64
import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedIOBase

_ACCEPTED = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_FINAL = 0x80
_MASKED = 0x80
_SHORT = 125  # bytes of payload whose length fits beside the mask bit; we send and take no more


class Opcode(IntEnum):
    """Which kind of frame it is (section 5.2); the shop answers text and ends on anything else."""

    TEXT = 1
    CLOSE = 8


def accept(key: str) -> str:
    """Return what answers a Sec-WebSocket-Key: proof that a WebSocket server has read it (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _ACCEPTED, usedforsecurity=False).digest()).decode()


def frame(opcode: Opcode, payload: bytes, *, mask: bytes = b"") -> bytes:
    """Return one frame of at most 125 bytes; a client has to give a mask of 4 bytes, a server none (section 5.1)."""
    if len(payload) > _SHORT:
        raise ValueError(f"a frame of {len(payload)} bytes; {_SHORT} at most")
    return bytes((_FINAL | opcode, (_MASKED if mask else 0) | len(payload))) + mask + _masked(payload, mask)


def read_frame(stream: BufferedIOBase) -> tuple[int, bytes]:
    """Read one frame of a client: its opcode and payload. A stream that has ended reads as a close frame."""
    head = stream.read(2)
    if len(head) < 2 or head[1] & ~_MASKED > _SHORT:
        return Opcode.CLOSE, b""
    mask = stream.read(4) if head[1] & _MASKED else b""
    return head[0] & ~_FINAL, _masked(stream.read(head[1] & ~_MASKED), mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
