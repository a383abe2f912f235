"""Heads and chunks into bytes, and the last check that they will be read back as they were meant.

Everything was judged on its way in; this is what holds if a judge is wrong. The version is HTTP/1.1 always (RFC 9112
section 2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.http.head import Field

_LINE: Final = b": ".join  # of a field: its name and value
# Makes another text of one that has spaces or controls. A table of what to delete would be built anew each time.
_VISIBLE: Final = bytes(byte if byte > 0x20 and byte != 0x7F else 0x3F for byte in range(256))


class Unwritable(Exception):
    """A bug of ours: a head was to be written that would not be read back as it was meant."""


def request_bytes(method: bytes, target: bytes, host: bytes, carried: bytes, ours: bytes, *, count: int) -> bytes:
    """Return a request head (RFC 9112 section 3): the Host first, then what is `carried`, then `ours`.

    Both are texts as `fields_text` makes them. What is carried was judged; ours are held to their `count` here. Raises
    Unwritable.
    """
    if b" " in method or b" " in target:
        raise Unwritable(f"a space in {method[:60]!r} or {target[:60]!r}")
    head = b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\n\r\n" % (method, target, host, carried, ours)
    return _checked(head, carried.count(b"\r\n") + count + 3)


def response_bytes(status: int, reason: bytes, carried: bytes, ours: bytes, *, count: int) -> bytes:
    """Return a response head (RFC 9112 section 4); otherwise as `request_bytes`."""
    head = b"HTTP/1.1 %d %b%b%b\r\n\r\n" % (status, reason, carried, ours)
    return _checked(head, carried.count(b"\r\n") + count + 2)


def fields_text(fields: Iterable[Field]) -> bytes:
    """Return fields as text, each behind its line end; raises Unwritable."""
    lines = [b"", *map(_LINE, fields)]
    return _checked(b"\r\n".join(lines), len(lines) - 1)


def chunk_start(size: int) -> bytes:
    """Return what stands before the `size` bytes of a chunk (RFC 9112 section 7.1); behind them stands CRLF.

    Raises Unwritable for an empty chunk, which would be the last.
    """
    if not size:
        raise Unwritable("an empty chunk")
    return b"%x\r\n" % size


def last_chunk(trailers: Iterable[Field] = ()) -> bytes:
    """Return the last chunk and the trailer section (RFC 9112 section 7.1.2); raises Unwritable."""
    return b"0%b\r\n\r\n" % fields_text(trailers)


def check_visible(parts: bytes) -> None:
    """Hold what goes anew into a head that was written and checked once: no spaces, no controls. Raises Unwritable."""
    if parts.translate(_VISIBLE) != parts:
        raise Unwritable(f"spaces or control bytes in {parts[:60]!r}")


def _checked(text: bytes, ends: int) -> bytes:
    """Return a text if the line ends that were meant are the only ones, and no line before the last is blank."""
    if (
        text.count(b"\n") != ends
        or text.count(b"\r") != ends
        or text.find(b"\r\n\r\n", 0, len(text) - 1) >= 0
        or b"\0" in text
    ):
        raise Unwritable(f"control bytes in a text that begins {text[:60]!r}")
    return text
