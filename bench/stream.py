"""One endless download, which tells its bytes per second when it is ended.

python -m bench.stream PORT
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from bench.backend import LENGTH_PATH
from bench.bulk import PIECE

if TYPE_CHECKING:
    from types import FrameType


class _Ended(Exception):
    pass


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


def main() -> None:
    """Download again and again until SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    buffer, total, begun = bytearray(PIECE), 0, time.perf_counter()
    request = f"GET {LENGTH_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    try:
        while True:
            with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
                connection.sendall(request)
                while received := connection.recv_into(buffer):
                    total += received
    except _Ended:
        print(total / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
