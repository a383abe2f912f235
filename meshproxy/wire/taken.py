"""What the other end has taken so far: what it leaves waits here, so who takes little is given little at a time."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from meshproxy.wire.buffers import LARGEST, SMALLEST

# tcpi_bytes_acked of <linux/tcp.h> (RFC 4898, tcpEStatsAppHCThruOctetsAcked), since Linux 4.1.
_AT: Final = 120
_ENDS: Final = _AT + 8


def reach(onward: socket.socket, chunk: int) -> int:
    """Return how much of `chunk` bytes to read for this socket: all, or the smallest read while it has taken little.

    What the kernel does not take waits here, for a reader who never takes it as long as he is borne with. So the
    longest reads are for who has taken as much before. It is asked a few times, while reads grow, and on the way of no
    small message. All, where nobody tells.
    """
    if SMALLEST < chunk < LARGEST:
        with contextlib.suppress(OSError):
            told = onward.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ENDS)
            if len(told) == _ENDS and int.from_bytes(told[_AT:], "little") < LARGEST:
                return SMALLEST
    return chunk
