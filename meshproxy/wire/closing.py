"""Ways to close a socket: an abort must not look like an end, and a last word must be heard."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios

import trio

from meshproxy.wire.fiber import in_task

_RESET = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds

# A peer that does not read what we still say is waited for this long, and this much of its own talk is discarded.
LINGER_SECONDS = 1.0
LINGER_BYTES = 64 * 1024


def reset(sock: socket.socket) -> None:
    """Close at once with RST, unless it is closed already; a unix socket knows no RST, it just closes."""
    if sock.fileno() < 0:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


async def linger(sock: socket.socket) -> None:
    """Close so that what was just sent arrives: shut down, discard at most 64 KiB or 1 s, then close.

    Closing a socket with unread data makes the kernel send RST, which destroys an alert before the peer has read it.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        discarded = 0
        await in_task()
        with trio.move_on_after(LINGER_SECONDS):
            while discarded < LINGER_BYTES:
                await trio.lowlevel.wait_readable(sock)
                received = len(sock.recv(LINGER_BYTES))
                if not received:
                    break
                discarded += received
    except (OSError, trio.ClosedResourceError):
        pass  # it is gone already; or its place is wanted by somebody else, and whoever waits for it is woken so
    finally:
        sock.close()


async def delivered(sock: socket.socket) -> None:
    """Wait, at most 1 s, until the peer's kernel has acknowledged what was sent; then RST loses nothing of it."""
    if sock.family == socket.AF_UNIX:
        return  # what was sent is in the peer's queue already
    await in_task()
    with trio.move_on_after(LINGER_SECONDS), contextlib.suppress(OSError):
        while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]:  # noqa: ASYNC110 - the kernel has no event for it
            await trio.sleep(0.005)
