"""A thread that writes log lines, so that a full pipe behind stderr stalls the log and not the traffic."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import select
import threading
import time
from typing import Final

# Lines are bounded by their makers (peers' text is cut), so this bounds memory to a few tens of MiB.
CAPACITY: Final = 16_384

_LINES_PER_WRITE: Final = 512
_STOP: Final = None


class LogWriter:
    """Takes whole lines from any thread and writes them to a descriptor in order.

    When the reader of the log is too slow, lines are dropped and counted in `dropped`; the next line that gets through
    is preceded by one that says how many are missing.
    """

    def __init__(self, descriptor: int, *, capacity: int = CAPACITY, turn: int | None = None) -> None:
        """Start the thread; the descriptors stay open and are the caller's.

        Where other processes write to the same pipe, `turn` is the descriptor of a file they all lock meanwhile:
        the kernel keeps together only what fits into PIPE_BUF (pipe(7)), and a batch, or one caller's path, is longer.
        """
        self._descriptor = descriptor
        self._turn = turn
        self._capacity = capacity
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._refused = 0  # counted by who puts
        self._lost = 0  # counted by the thread: two writers of one number would miscount
        self._reported = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter waiting={self._queue.qsize()} dropped={self.dropped}>"

    @property
    def dropped(self) -> int:
        """How many lines were refused by a full queue, or lost to a failed write, since start."""
        return self._refused + self._lost

    def put(self, line: bytes) -> None:
        """Queue one line, which ends with a newline; never blocks."""
        if self._queue.qsize() >= self._capacity:
            self._refused += 1
            return
        self._queue.put(line)

    def close(self, *, within: float = 2.0) -> None:
        """Write what waits, for at most `within` seconds."""
        self._queue.put(_STOP)
        self._thread.join(within)

    def _run(self) -> None:
        while True:
            lines = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(lines) < _LINES_PER_WRITE:
                    lines.append(self._queue.get_nowait())
            missing = self.dropped - self._reported
            report = b'{"event":"log_lines_dropped","level":"warning","count":%d}\n' % missing
            if missing and self._write_in_turn(report) == 0:
                self._reported += missing  # a report that got lost itself is made again
            self._lost += self._write_in_turn(b"".join(line for line in lines if line is not _STOP))
            if _STOP in lines:
                return

    def _write_in_turn(self, data: bytes) -> int:
        """Write whole lines, with none of another process among them; returns how many were lost."""
        if self._turn is None:
            return self._write(data)
        fcntl.lockf(self._turn, fcntl.LOCK_EX)  # the kernel unlocks for who dies
        try:
            return self._write(data)
        finally:
            fcntl.lockf(self._turn, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> int:
        """Write whole lines; returns how many were lost."""
        waiting = memoryview(data)
        while waiting:
            try:
                waiting = waiting[os.write(self._descriptor, waiting) :]
            except BlockingIOError:  # somebody who shares the pipe made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                # The reader is gone or the disk is full: the service matters more than its log.
                time.sleep(0.05)
                return bytes(waiting).count(b"\n")
        return 0
