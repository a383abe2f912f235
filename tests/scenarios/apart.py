"""Load that is measured from without: a process of its own, on a core of its own, before others of this machine.

    crew = stage.keep(Steady(api, stage.identity("/web").directory, port, callers=20, rates="200+20"))
    quiet = crew.look(10)

The sidecar has the first core and whoever loads it the others, so that what one of them has to do does not keep the
other from measuring. Where we may, the sidecar and who measures it are of a real-time class: else what a machine that
is busy with something else makes anybody wait is told as what a sidecar does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.scenarios.slow import Fate
from tests.scenarios.steady import Look

if TYPE_CHECKING:
    from types import TracebackType

    from tests.scenarios.stage import Sidecar

_HOUSE = Path(__file__).parent.parent.parent


def pin(pid: int, *, loads: bool, preferred: bool = True) -> None:
    """Give a process the core of whoever `loads`, or that of the sidecar; of one core they share that."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, set(cores[1:] or cores) if loads else {cores[0]})
    if preferred:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor, by its clock (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


class _Apart:
    """A program of this folder that loads a sidecar, and talks with us by lines."""

    def __init__(self, module: str, *arguments: object, preferred: bool = False) -> None:
        self._command = [sys.executable, "-m", f"tests.scenarios.{module}", *map(str, arguments)]
        self._preferred = preferred
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, cwd=_HOUSE)
        pin(self._process.pid, loads=True, preferred=self._preferred)
        self.hear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def say(self, line: str) -> None:
        """Say a line."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Wait for a line."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._command} has ended"
        return line


class Steady(_Apart):
    """Honest callers, see `steady.py`; they are there as soon as this is entered."""

    def __init__(self, api: Sidecar, directory: Path, port: int, *, callers: int, rates: str) -> None:
        super().__init__("steady", api.address("api"), api.process.pid, directory, port, callers, rates, preferred=True)

    def begin(self, seconds: float) -> None:
        """Have them look for so many seconds; `end` tells."""
        self.say(f"{seconds}")

    def end(self) -> Look:
        """Wait for what was begun."""
        return Look(**json.loads(self.hear()))

    def look(self, seconds: float) -> Look:
        """How it goes for so many seconds."""
        self.begin(seconds)
        return self.end()

    def come_again(self, seconds: float) -> Look:
        """All hang up and come back within a second; how it goes from then on."""
        self.say(f"again {seconds}")
        return self.end()


class Slow(_Apart):
    """Callers who take their time, see `slow.py`; they are connected when this is entered."""

    def __init__(self, address: str, directory: Path, kind: str, connections: int) -> None:
        super().__init__("slow", address, directory, kind, connections)

    def begin(self) -> None:
        """Have them begin."""
        self.say("begin")

    def fates(self) -> list[Fate]:
        """Wait until all have ended; what became of each."""
        return [Fate(**each) for each in json.loads(self.hear())]


class Flood(_Apart):
    """Somebody who opens connections and lets them be, see `flood.py`; he has what he wants when it is entered."""

    def __init__(self, address: str, kind: str, *, sockets: int, per_second: float) -> None:
        super().__init__("flood", address, kind, sockets, per_second)

    def opened(self) -> int:
        """Have him end; how many he has opened."""
        self.say("end")
        return int(self.hear())
