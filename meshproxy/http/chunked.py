"""The chunked coding (RFC 9112 section 7.1), decoded strictly.

Chunk extensions are dropped: RFC 9112 section 7.1.1 lets every recipient ignore them, and no two programs read their
faults alike.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from meshproxy.http.framing import MOST_BYTES
from meshproxy.http.guard import TOKEN, find_section_end, judge_fields, refuse_controls
from meshproxy.http.head import BadMessage

if TYPE_CHECKING:
    from meshproxy.http.head import Field, HeadLimits

_LONGEST_SIZE_LINE: Final = 256  # bytes, extensions and CRLF included

# chunk-size [ chunk-ext ]; no whitespace behind the size unless an extension follows (that is its BWS).
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+" % (TOKEN, TOKEN, _QUOTED)
)


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedDecoder:
    """Decodes one chunked body out of a buffer that grows at its end.

    `trailers` are the fields behind the last chunk, once `done`.
    """

    __slots__ = ("_left", "_limits", "_part", "_scanned", "trailers")

    def __init__(self, limits: HeadLimits) -> None:
        """Start before the first chunk; `limits` bound the trailer section."""
        self._limits = limits
        self._part = _Part.SIZE
        self._left = 0
        self._scanned = 0
        self.trailers: tuple[Field, ...] = ()

    def __repr__(self) -> str:
        return f"<ChunkedDecoder {self._part.name} left={self._left}>"

    @property
    def done(self) -> bool:
        """Whether the body is complete; what is left in the buffer then belongs to the next message."""
        return self._part is _Part.DONE

    def step(self, buffer: bytearray) -> bytes | None:
        """Take one piece off the front of `buffer`.

        Returns data, empty when the piece was framing, or None when more bytes are needed or it is done. Raises
        BadMessage (400, or 431 for a trailer section beyond the limits).
        """
        match self._part:
            case _Part.DATA:
                return self._take_data(buffer)
            case _Part.SIZE:
                return self._take_size(buffer)
            case _Part.DATA_END:
                return self._take_data_end(buffer)
            case _Part.TRAILERS:
                return self._take_trailers(buffer)
            case _Part.DONE:
                return None

    def _take_size(self, buffer: bytearray) -> bytes | None:
        # CR, not CRLF: a lone CR is refused by the line's own grammar, as soon as its next byte is there.
        end = buffer.find(b"\r", self._scanned, _LONGEST_SIZE_LINE)
        if end < 0 or end + 1 == len(buffer):
            self._scanned = min(len(buffer), _LONGEST_SIZE_LINE) if end < 0 else end
            if len(buffer) >= _LONGEST_SIZE_LINE:
                raise BadMessage(400, f"a chunk-size line of more than {_LONGEST_SIZE_LINE} bytes")
            refuse_controls(buffer[:end] if end >= 0 else buffer)
            return None
        line = _SIZE_LINE.fullmatch(buffer, 0, end)
        if line is None or buffer[end + 1] != 0x0A:
            raise BadMessage(400, f"not a chunk-size line: {bytes(buffer[: end + 2][:40])!r} (RFC 9112 section 7.1)")
        size = int(line[1], 16)
        if size > MOST_BYTES:
            raise BadMessage(400, f"a chunk of {size} bytes")
        del buffer[: end + 2]
        self._scanned = 0
        self._left = size
        self._part = _Part.DATA if size else _Part.TRAILERS
        return b""

    def _take_data(self, buffer: bytearray) -> bytes | None:
        if not buffer:
            return None
        data = bytes(memoryview(buffer)[: self._left])
        del buffer[: len(data)]
        self._left -= len(data)
        if not self._left:
            self._part = _Part.DATA_END
        return data

    def _take_data_end(self, buffer: bytearray) -> bytes | None:
        if not b"\r\n".startswith(buffer[:2]):
            raise BadMessage(400, "chunk data that is not followed by CRLF (RFC 9112 section 7.1)")
        if len(buffer) < 2:
            return None
        del buffer[:2]
        self._part = _Part.SIZE
        return b""

    def _take_trailers(self, buffer: bytearray) -> bytes | None:
        if buffer.startswith(b"\r\n"):
            end = 2
        else:
            end = find_section_end(buffer, self._scanned, self._limits)
            if end < 0:
                self._scanned = len(buffer)
                return None
        section = bytes(memoryview(buffer)[:end])
        refuse_controls(section)
        judge_fields(section, self._limits)
        self.trailers = tuple(_field(line) for line in section[:-4].split(b"\r\n") if line)
        del buffer[:end]
        self._part = _Part.DONE
        return b""


def _field(line: bytes) -> Field:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")
