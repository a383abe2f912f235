"""A thread that writes log lines, so that a full pipe behind stderr stalls the log and not the traffic."""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from typing import Final

# What may wait for a slow reader: lines, and bytes. As much again may be on its way out at that moment.
CAPACITY: Final = 16_384
MOST_BYTES: Final = 8 * 1024 * 1024

_LINES_PER_WRITE: Final = 512

# Lines are gathered for so many seconds, then written at once: waking the thread for each line cost as much as the
# request it told of (a futex, a switch of threads and two of the interpreter lock).
_GATHER: Final = 0.02


class LogWriter:
    """Takes whole lines from any thread and writes them to a descriptor in order.

    When the reader of the log is too slow, lines are dropped and counted in `dropped`; the next line that gets through
    is preceded by one that says how many are missing.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        capacity: int = CAPACITY,
        most_bytes: int = MOST_BYTES,
        turn: int | None = None,
    ) -> None:
        """Start the thread; `descriptor` stays open and is the caller's. At most so many lines and bytes wait.

        Where other processes write to the same pipe, `turn` is the descriptor of a file they all lock meanwhile:
        the kernel keeps together only what fits into PIPE_BUF (pipe(7)), and a batch, or one caller's path, is longer.
        """
        self._descriptor = descriptor
        self._turn = turn
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # over what waits and what was refused
        self._lines: list[bytes] = []
        self._bytes = 0
        self._refused = 0
        self._lost = 0  # counted by the thread alone
        self._reported = 0
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter waiting={len(self._lines)} dropped={self.dropped}>"

    @property
    def dropped(self) -> int:
        """How many lines were refused for want of room, or lost to a failed write, since start."""
        return self._refused + self._lost

    def put(self, line: bytes) -> None:
        """Take one line, which ends with a newline; never waits for the reader."""
        with self._lock:
            lines, size = self._lines, self._bytes + len(line)
            if size > self._most_bytes or len(lines) >= self._capacity:
                self._refused += 1
                return
            is_first = not lines
            self._bytes = size
            lines.append(line)
        if is_first:
            self._news.set()

    def close(self, *, within: float = 2.0) -> None:
        """Write what waits, for at most `within` seconds."""
        self._closing.set()
        self._news.set()
        self._thread.join(within)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._news.wait()
            self._closing.wait(_GATHER)
            # Cleared before the rest is looked at: who closes now, or puts the first line behind these, sets it again.
            self._news.clear()
            closing = self._closing.is_set()
            with self._lock:
                lines, self._lines, self._bytes = self._lines, [], 0
            for start in range(0, len(lines), _LINES_PER_WRITE):
                self._report_missing()
                self._lost += self._write_in_turn(b"".join(lines[start : start + _LINES_PER_WRITE]))

    def _report_missing(self) -> None:
        missing = self.dropped - self._reported
        report = b'{"event":"log_lines_dropped","level":"warning","count":%d}\n' % missing
        if missing and self._write_in_turn(report) == 0:
            self._reported += missing  # a report that got lost itself is made again

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
