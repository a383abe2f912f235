"""A bounded queue of decisions, and the thread that writes them down.

Whoever decides puts the decision here before anything follows from it, and learns at once whether there was room. The
thread gathers for 20 ms, chains, writes, and has the disk keep it, all of a batch at once. While the disk refuses there
is no room: nothing is accepted that may never be written.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.audit.checkpoints import CheckpointError, Seal, Signer, sign
from meshproxy.audit.lines import Missing, Why

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.audit.file import AuditFile
    from meshproxy.audit.lines import Decision
    from meshproxy.settings.schema import AuditSettings
    from meshproxy.telemetry.events import Logger

# What may wait for the disk: decisions, and bytes. As much again may be on its way there at that moment.
CAPACITY: Final = 16_384
MOST_BYTES: Final = 16 * 1024 * 1024

_WEIGHT: Final = 512  # bytes that a decision takes while it waits, without its path, about
_GATHER: Final = 0.02  # seconds, as the log's; a decision is durable so much later, and the disk's time
_RETRY: Final = 0.25  # seconds until a disk that refused is tried again
_TOLD_EVERY: Final = 10.0  # seconds between two words about the same failure
_LINES_PER_FLUSH: Final = 2048
_FULL: Final = "is there room? df -h; may the sidecar's user write there?"


@dataclass(slots=True)
class Figures:
    """What is counted by the thread; others look at it."""

    records: int = 0  # decisions that are durable
    refused: int = 0  # decisions there was no room for
    failures: int = 0  # writes that failed
    checkpoints: int = 0
    checkpoint_at: float = 0.0  # monotonic
    uncovered: int = 1  # lines since the last checkpoint


class Journal:
    """Takes decisions in one thread and writes them in another."""

    def __init__(
        self,
        file: AuditFile,
        settings: AuditSettings,
        *,
        signer: Callable[[], Signer | None],
        stamp: Callable[[], str],
        log: Logger,
        capacity: int = CAPACITY,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Start the thread. `signer` gives the key of the moment, or None while there is none; both are called there.

        At most so many decisions and bytes wait. `close` must be called in the end.
        """
        self._file = file
        self._settings = settings
        self._signer = signer
        self._stamp = stamp
        self._log = log
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # over what waits
        self._entries: list[Decision] = []
        self._taken: list[Decision] = []  # by the thread, and not with the file yet
        self._bytes = 0
        self._writing = 0  # taken by the thread, and not durable yet
        self._untold = 0  # refused, and not written down as missing yet
        self._failing = False
        self.error = ""  # why the disk refused last; empty when it did not
        self._failed_at = -_TOLD_EVERY
        self._rotate_again_at = 0.0
        self._last_checkpoint = time.monotonic()
        self._news = threading.Event()
        self._closing = threading.Event()
        self.figures = Figures(checkpoint_at=time.monotonic())
        self._thread = threading.Thread(target=self._run, name="audit-journal", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Journal {self._file!r} waiting={self.depth} failing={self._failing} {self.figures!r}>"

    @property
    def file(self) -> AuditFile:
        """Where it writes."""
        return self._file

    @property
    def depth(self) -> int:
        """How many decisions are not durable yet."""
        return len(self._entries) + len(self._taken) + self._writing

    @property
    def failing(self) -> bool:
        """Whether the disk refused last."""
        return self._failing

    @property
    def crowded(self) -> bool:
        """Whether it is time to ask for no more: half of the room is taken, or the disk refuses."""
        return self._failing or 2 * len(self._entries) >= self._capacity or 2 * self._bytes >= self._most_bytes

    def put(self, decision: Decision) -> bool:
        """Take a decision; False when there is no room, and then nothing may follow from it. Never waits."""
        with self._lock:
            entries, size = self._entries, self._bytes + _WEIGHT + len(decision.path)
            if self._failing or len(entries) >= self._capacity or size > self._most_bytes:
                self.figures.refused += 1
                self._untold += 1
                return False
            is_first = not entries
            entries.append(decision)
            self._bytes = size
        if is_first:
            self._news.set()
        return True

    def close(self, *, within: float = 5.0) -> None:
        """Write what waits and a last checkpoint, for at most `within` seconds; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._news.set()
        self._thread.join(within)
        if self._thread.is_alive() or self._failing:
            self._log.error("audit_log_incomplete", file=str(self._file.path), lost=self.depth + self._untold)
        if not self._thread.is_alive():
            self._file.close()

    def _run(self) -> None:
        while True:
            self._news.wait(self._nap())
            self._closing.wait(_GATHER)
            # Before what waits is looked at: who closes now, or puts the first one behind these, sets it again.
            self._news.clear()
            closing = self._closing.is_set()
            try:
                while self._write_some():
                    pass
                self._seal(Why.STOPPED if closing else Why.INTERVAL)
                if self._file.size >= self._settings.rotate_size and not closing:
                    self._rotate()
            except OSError as error:
                self._failed(error)
            else:
                self._recovered()
            if closing:
                return

    def _nap(self) -> float | None:
        """How long nothing has to be done but what is put."""
        if self._failing:
            return _RETRY
        if not self.figures.uncovered:
            return None
        return max(self._last_checkpoint + self._settings.checkpoint_every - time.monotonic(), 0.0)

    def _write_some(self) -> bool:
        """Make some of what waits durable; whether there was any."""
        with self._lock:
            if not self._taken:
                self._taken, self._entries, self._bytes = self._entries, [], 0
            # While the disk refuses more go missing; they are told of once.
            missing, self._untold = (0, self._untold) if self._failing else (self._untold, 0)
        entries, self._taken = self._taken[:_LINES_PER_FLUSH], self._taken[_LINES_PER_FLUSH:]
        self._writing += len(entries)
        if missing:
            self._append(Missing(self._stamp(), missing))
        for each in entries:
            self._file.append(each)
        self.figures.uncovered += len(entries)
        self._file.flush()
        self.figures.records += self._writing
        self._writing = 0
        if self.figures.uncovered >= self._settings.checkpoint_lines:
            self._seal(Why.INTERVAL, now=True)
        return bool(entries)

    def _append(self, body: Missing) -> None:
        self._file.append(body)
        self.figures.uncovered += 1

    def _seal(self, why: Why, *, now: bool = False) -> None:
        """Sign how far the chain goes, if it is time."""
        is_due = time.monotonic() >= self._last_checkpoint + self._settings.checkpoint_every
        if not (now or why is not Why.INTERVAL or (is_due and self.figures.uncovered)):
            return
        signer = self._signer()
        self._last_checkpoint = time.monotonic()
        if signer is None:
            return  # the age of the last one tells
        file = self._file
        seal = Seal(file.chain, file.head.seq, file.head.hash, self._stamp(), why)
        try:
            file.append(sign(seal, signer))
        except CheckpointError as error:
            self._log.error("audit_checkpoint_failed", file=str(file.path), error=str(error))
            return
        self.figures.uncovered = 0
        file.flush()
        self.figures.checkpoints += 1
        self.figures.checkpoint_at = time.monotonic()
        # Where this log goes, the end of the chain is known: what is cut off behind it shows.
        self._log.info(
            "audit_checkpoint", file=str(file.path), chain=seal.chain, covers=seal.seq, hash=seal.hash, why=why.value
        )

    def _rotate(self) -> None:
        if time.monotonic() < self._rotate_again_at:
            return
        self._seal(Why.ROTATED)
        try:
            self._file.rotate()
        except OSError as error:
            # No reason to refuse anything: the file only grows beyond its size.
            self._rotate_again_at = time.monotonic() + _TOLD_EVERY
            self._log.error(
                "audit_log_not_rotated", file=str(self._file.path), error=error.strerror or str(error), remedy=_FULL
            )
            return
        self._file.flush()
        self.figures.uncovered += 1
        self._log.info("audit_log_rotated", file=str(self._file.path), first=self._file.head.seq)

    def _failed(self, error: OSError) -> None:
        self._failing, self.error = True, error.strerror or str(error)
        self.figures.failures += 1
        if time.monotonic() - self._failed_at >= _TOLD_EVERY:
            self._failed_at = time.monotonic()
            self._log.error(
                "audit_log_failed",
                file=str(self._file.path),
                error=self.error,
                waiting=self.depth,
                refused=self.figures.refused,
                effect="what would have to be recorded is refused",
                remedy=_FULL,
            )

    def _recovered(self) -> None:
        if self._failing:
            self._failing, self.error = False, ""
            self._failed_at = -_TOLD_EVERY
            self._log.info("audit_log_good_again", file=str(self._file.path), refused=self.figures.refused)
            self._news.set()  # for what went missing meanwhile
