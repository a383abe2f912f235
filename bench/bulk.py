"""100 MiB in either framing, sent and swallowed with few system calls: the load is not what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

BULK_BYTES: Final = 100 << 20
PIECE: Final = 1 << 20  # per system call
LENGTH_FIELD: Final = b"Content-Length: %d\r\n" % BULK_BYTES
CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"

_CHUNK: Final = 16 << 10  # what many a server sends in one piece
_LAST_CHUNK: Final = b"0\r\n\r\n"
_PLAIN_PIECE: Final = bytes(PIECE)
_CHUNKED_PIECE: Final = (b"%x\r\n%b\r\n" % (_CHUNK, bytes(_CHUNK))) * (PIECE // _CHUNK)


def send_body(connection: socket.socket, *, chunked: bool) -> None:
    """Send 100 MiB in either framing."""
    piece = _CHUNKED_PIECE if chunked else _PLAIN_PIECE
    for _ in range(BULK_BYTES // PIECE):
        connection.sendall(piece)
    if chunked:
        connection.sendall(_LAST_CHUNK)


def swallow(connection: socket.socket, begun: bytes, *, chunked: bool) -> int:
    """Take a body to its end and return how many bytes came, chunk framing included; `begun` came with the head.

    Chunks may be cut anew on the way, so a chunked body is read until the last one.
    """
    buffer = bytearray(PIECE)
    buffer[: len(begun)] = begun
    total, size = len(begun), len(begun)
    tail = begun[-len(_LAST_CHUNK) :]
    while tail != _LAST_CHUNK if chunked else total < BULK_BYTES:
        size = connection.recv_into(buffer)
        if size == 0:
            break
        total += size
        tail = (tail + buffer[max(0, size - len(_LAST_CHUNK)) : size])[-len(_LAST_CHUNK) :]
    return total
