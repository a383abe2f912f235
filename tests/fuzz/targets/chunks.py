"""Chunked bodies, in portions of any size, against a decoder that knows nothing of ours and takes its time."""

from __future__ import annotations

import re

from meshproxy.http.chunked import ChunkedDecoder
from meshproxy.http.head import BadMessage, HeadLimits
from tests.fuzz.target import Target
from tests.http.corpus import CHUNKS

_LIMITS = HeadLimits(head_bytes=2048, fields=10)
_MOST_PORTIONS = 500
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*[!#$%&\'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*=[ \t]*(?:[!#$%&\'*+.^_`|~0-9A-Za-z-]+|"
    rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*)'
)
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


def _run(data: bytes) -> None:
    at_once = _decoded(data, max(len(data), 1))
    for step in (1, 3, 16):
        if len(data) / step <= _MOST_PORTIONS:
            assert _decoded(data, step) == at_once
    body, done, _, refused = at_once
    assert (body, done) == _simply(data) or (refused and not done)
    if done:
        assert not refused


def _decoded(data: bytes, step: int) -> tuple[bytes, bool, int, bool]:
    """The body, whether it is complete, how much is left behind it, and whether it was refused."""
    decoder = ChunkedDecoder(_LIMITS)
    buffer = bytearray()
    pieces: list[bytes | memoryview] = []
    body = b""
    try:
        for start in range(0, len(data), step):
            buffer += data[start : start + step]
            pieces.clear()
            try:
                taken = decoder.take(bytes(buffer), 0, pieces)
            finally:
                body += b"".join(pieces)
            del buffer[:taken]
            if decoder.done:
                return body, True, len(buffer) + max(len(data) - start - step, 0), False
    except BadMessage:
        return body, False, 0, True
    return body, False, 0, False


def _simply(data: bytes) -> tuple[bytes, bool]:
    """The same by RFC 9112 section 7.1, byte for byte; of what is incomplete, the data that has come."""
    body, at = b"", 0
    while True:
        end = data.find(b"\r\n", at)
        line = data[at:end] if end >= 0 else b""
        found = _SIZE.fullmatch(line) if end >= 0 else None
        if found is None:
            return body, False
        size = int(found[1], 16)
        at = end + 2
        if size == 0:
            break
        body += data[at : at + size]
        if data[at + size : at + size + 2] != b"\r\n":
            return body, False
        at += size + 2
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return body, False
        line, at = data[at:end], end + 2
        if not line:
            return body, True
        if not _FIELD.fullmatch(line):
            return body, False


TARGET = Target(
    _run,
    (
        *(case.raw.partition(b"\r\n\r\n")[2] for case in CHUNKS if len(case.raw) < 2000),
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1\r\na\r\n2\r\nbc\r\nF\r\n0123456789abcde\r\n0\r\nX: y\r\n\r\nGET",
        b"f" * 16,
    ),
    (
        *(b"\r\n", b"\r", b"\n", b"0\r\n\r\n", b"1\r\na\r\n", b";a=b", b';a="', b'"', b"\\", b"ffffffffffffffff"),
        b"X: y\r\n",
    ),
)
