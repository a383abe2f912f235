"""A load that does not wait for the answers: so many requests per second, each due at a time fixed before.

A generator that asks only when it was answered slows down together with what it measures, and hides the waits of
everybody who would have asked meanwhile (coordinated omission). Here latency counts from the time a request was due,
however late it could be sent.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from typing import Final

from bench.backend import SMALL_BODY, SMALL_PATH
from bench.bulk import PIECE
from bench.processes import PATIENCE, BenchError

_REQUEST: Final = f"GET {SMALL_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
_WARM_UP: Final = 2  # requests per connection before the clock starts: handshakes are another row


class _Caller:
    """One connection with at most one request on it."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._received = b""
        self.due = 0.0

    def fileno(self) -> int:
        return self._link.fileno()

    def ask(self, due: float) -> None:
        self.due = due
        self._link.sendall(_REQUEST)

    def is_answered(self) -> bool:
        """Receive once; raises BenchError for any other answer than the right one."""
        received = self._link.recv(PIECE)
        self._received += received
        head_end = self._received.find(b"\r\n\r\n")
        whole = head_end + 4 + len(SMALL_BODY)
        if not received or not self._received.startswith(b"HTTP/1.1 200 "[: len(self._received)]):
            raise BenchError(f"a request at a constant rate was answered {self._received[:80]!r}")
        if head_end < 0 or len(self._received) < whole:
            return False
        self._received = b""
        return True

    def close(self) -> None:
        self._link.close()


def run_steadily(port: int, *, rate: int, seconds: int, connections: int) -> list[float]:
    """Ask `rate` times per second and return the latencies in microseconds, sorted.

    Raises BenchError when an answer is wrong, or when those that are due pile up and do not come in the end.
    """
    callers = [_Caller(port) for _ in range(connections)]
    try:
        for caller in callers:
            for _ in range(_WARM_UP):
                caller.ask(0)
                while not caller.is_answered():
                    pass
        gc.disable()  # a pause of ours would look like one of theirs
        return _ask_on_time(callers, rate, rate * seconds)
    finally:
        gc.enable()
        for caller in callers:
            caller.close()


def _ask_on_time(callers: list[_Caller], rate: int, total: int) -> list[float]:
    latencies: list[float] = []
    free, busy = list(callers), set[_Caller]()
    waiting: deque[float] = deque()
    start = time.perf_counter() + 0.01
    scheduled = 0
    while len(latencies) < total:
        now = time.perf_counter()
        while scheduled < total and (due := start + scheduled / rate) <= now:
            waiting.append(due)
            scheduled += 1
        while waiting and free:
            caller = free.pop()
            caller.ask(waiting.popleft())
            busy.add(caller)
        if now > start + total / rate + PATIENCE:
            raise BenchError(f"{total - len(latencies)} of {total} requests were not answered in time")
        # select, as it alone waits for less than a millisecond
        pause = max(0.0, start + scheduled / rate - time.perf_counter()) if scheduled < total else 1.0
        for caller in select.select(busy, (), (), pause)[0]:
            if caller.is_answered():
                latencies.append(1e6 * (time.perf_counter() - caller.due))
                busy.remove(caller)
                free.append(caller)
    return sorted(latencies)


def percentile(latencies: list[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of sorted values do not exceed."""
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]
