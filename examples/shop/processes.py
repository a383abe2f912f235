"""The processes of the demo: each in a group of its own with a log of its own, and none outlives the demo."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOK_EVERY: Final = 0.02  # seconds between two looks at what has no event to wait for
_PEAK: Final = re.compile(r"VmHWM:\s+([0-9]+) kB")
_PATIENCE: Final = 3.0  # seconds for a log line to come
_GRACE: Final = 3.0  # seconds to end after SIGTERM
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class StageError(Exception):
    """The demo could not be set up; the text says what failed, with the end of its log."""


class LogLine(dict[str, str]):
    """One JSON line of a sidecar's log; what it does not say is empty."""

    def __missing__(self, _key: str) -> str:
        return ""


class Log:
    """What a process writes to stderr, read from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._unread: deque[LogLine] = deque()

    def __repr__(self) -> str:
        return f"<Log {self.path.name} at {self._position}>"

    async def line(self, **wanted: str) -> LogLine:
        """Wait for the next line with these fields, and return it; an empty one when none comes in time.

        Lines before it are passed over.
        """
        with trio.move_on_after(_PATIENCE):
            while True:
                self._look()
                while self._unread:
                    line = self._unread.popleft()
                    if wanted.items() <= line.items():
                        return line
                await trio.sleep(_LOOK_EVERY)
        return LogLine()

    def skip(self) -> None:
        """Pass over all that is there already."""
        self._look()
        self._unread.clear()

    def tail(self, lines: int = 12) -> str:
        """Return the last lines as text."""
        return "\n".join(self.path.read_text(errors="replace").splitlines()[-lines:])

    def _look(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        self._position += len(complete)
        self._unread.extend(map(_parsed, complete.splitlines()))


def _parsed(line: bytes) -> LogLine:
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return LogLine()  # not every line of a service is JSON
    return LogLine({key: str(value) for key, value in fields.items()})


class Processes:
    """Starts processes, waits for them, and ends them all in `close`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Log] = {}

    def __repr__(self) -> str:
        return f"<Processes {sorted(self._running)}>"

    def start(self, name: str, command: Sequence[str], *, cwd: Path) -> None:
        """Start `command`, known as `name`; stdout and stderr go to its log."""
        path = self._logs / f"{name}.log"
        with path.open("ab") as log:
            # Synchronous on purpose: nothing can come between starting a process and knowing it.
            self._running[name] = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - the demo has one thread
            )
        self.logs.setdefault(name, Log(path))

    async def run(self, name: str, command: Sequence[str], *, cwd: Path) -> None:
        """Run `command` to its end. Raises StageError unless it exits with 0."""
        self.start(name, command, cwd=cwd)
        process = self._running[name]
        while process.poll() is None:  # noqa: ASYNC110 - see start: trio's own waiting needs trio's own starting
            await trio.sleep(_LOOK_EVERY)
        del self._running[name]
        if process.returncode:
            raise StageError(f"{' '.join(command)}\nfailed: {self.logs[name].tail()}")

    def require(self, name: str) -> None:
        """Raise StageError with the end of its log when the process `name` has ended."""
        code = self._running[name].poll()
        if code is not None:
            raise StageError(f"{name} ended with {code}: {self.logs[name].tail()}")

    def kill(self, name: str) -> None:
        """End `name` with SIGKILL, as a crash would, unless it has ended before; returns when it is gone."""
        process = self._running.pop(name, None)
        if process is not None:
            _signal(process, signal.SIGKILL)
            process.wait()

    async def end(self, name: str) -> int:
        """End `name` with SIGTERM, and return its exit code when it is gone."""
        process = self._running[name]
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # noqa: ASYNC110 - see run
            await trio.sleep(_LOOK_EVERY)
        return self._running.pop(name).returncode

    def forget_peak_memory(self, name: str) -> None:
        """Let `peak_memory` of `name` count from now on (Linux only; elsewhere nothing happens)."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._running[name].pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def peak_memory(self, name: str) -> int | None:
        """Return the most memory, in bytes, that `name` has had resident; None where no /proc tells."""
        try:
            status = Path(f"/proc/{self._running[name].pid}/status").read_text()
        except OSError:
            return None
        found = _PEAK.search(status)
        return int(found[1]) * 1024 if found else None

    def close(self) -> None:
        """End every process, gently at first; returns when all are gone, within a few seconds."""
        for process in self._running.values():
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in self._running.values():
            _signal(process, signal.SIGKILL)
            process.wait()
        self._running.clear()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)  # process_group=0 made it the leader of its own


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child does before it starts: ask Linux to kill it when the demo dies without a chance to do so."""

    def ask() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died just before we asked
                os._exit(1)

    return ask
