"""A thread that writes log lines, so that a full pipe behind stderr stalls the log and not the traffic."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# What may wait for a slow reader: lines, and bytes. As much again may be on its way out at that moment.
CAPACITY: Final = 16_384
MOST_BYTES: Final = 8 * 1024 * 1024

_LINES_PER_WRITE: Final = 512

# Lines are gathered for so many seconds, then written at once: waking the thread for each line cost as much as the
# request it told of (a futex, a switch of threads and two of the interpreter lock). While there are lines it wakes by
# itself: being woken fifty times a second was a tenth of what a line costs.
_GATHER: Final = 0.05

_NEWLINE: Final = ord("\n")


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
        self._lines: deque[bytes] = deque()  # `append` and `popleft` need no lock
        self._is_awake = False  # the thread will look at what waits by now
        # Bytes and lines, each counted by one thread alone, or by whoever holds the lock.
        self._lock = threading.Lock()
        self._given = self._refused = 0
        self._given_alone = self._refused_alone = 0
        self._taken = self._lost = 0
        self._reported = 0
        self._is_cut = False  # a line was written in part, and no other may be taken for its rest
        self._news: SimpleQueue[None] = SimpleQueue()  # of what wakes the thread
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter waiting={len(self._lines)} dropped={self.dropped}>"

    @property
    def dropped(self) -> int:
        """How many lines were refused for want of room, or lost to a failed write, since start."""
        return self._refused + self._refused_alone + self._lost

    def put(self, line: bytes) -> None:
        """Take one line, which ends with a newline; never waits for the reader."""
        with self._lock:
            given = self._given + len(line)
            if given + self._given_alone - self._taken > self._most_bytes or len(self._lines) >= self._capacity:
                self._refused += 1
                return
            self._given = given
            self._lines.append(line)
        if not self._is_awake:
            self._wake()

    def put_alone(self, line: bytes) -> None:
        """As `put`, for one thread that nobody else calls this from: half as long without the lock."""
        given = self._given_alone + len(line)
        if given + self._given - self._taken > self._most_bytes or len(self._lines) >= self._capacity:
            self._refused_alone += 1
            return
        self._given_alone = given
        self._lines.append(line)
        if not self._is_awake:
            self._wake()

    def put_all_alone(self, lines: Sequence[bytes]) -> None:
        """As `put_alone`, of several lines at once."""
        given = self._given_alone + sum(map(len, lines))
        if given + self._given - self._taken > self._most_bytes or len(self._lines) + len(lines) > self._capacity:
            for line in lines:
                self.put_alone(line)
            return
        self._given_alone = given
        self._lines.extend(lines)
        if not self._is_awake:
            self._wake()

    def close(self, *, within: float = 2.0) -> None:
        """Write what waits, for at most `within` seconds."""
        self._is_closing = True
        self._news.put(None)
        self._thread.join(within)

    def _wake(self) -> None:
        self._is_awake = True
        self._news.put(None)

    def _run(self) -> None:
        closing = False
        while not closing:
            if not self._lines:
                # Whoever still finds the thread awake had put its line before that, and it is seen by the second look.
                self._is_awake = False
                if not self._lines:
                    self._news.get()
            with contextlib.suppress(Empty):
                self._news.get(timeout=_GATHER)
            closing = self._is_closing  # before the lines: those that were put before `close` are among them
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            self._taken += sum(map(len, lines))
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
        whole = b"\n" + data if self._is_cut else data
        waiting = memoryview(whole)
        while waiting:
            try:
                waiting = waiting[os.write(self._descriptor, waiting) :]
            except BlockingIOError:  # somebody who shares the pipe made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                # The reader is gone or the disk is full: the service matters more than its log.
                time.sleep(0.05)
                written = len(whole) - len(waiting)
                if not written:
                    return data.count(b"\n")
                self._is_cut = whole[written - 1] != _NEWLINE
                return whole.count(b"\n", written)
        self._is_cut = False
        return 0
