"""Programs on this machine: started on one core, weighed while they run, and gone when the benchmark is."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

PATIENCE: Final = 20.0  # seconds for a program to listen, or to answer
_GRACE: Final = 5.0  # seconds for a program to end by itself
_LISTEN: Final = "0A"  # the state of a listening socket in /proc/net/tcp (proc_net_tcp.txt)
_MORE_PLACES: Final = "/usr/sbin:/usr/local/sbin"  # where Debian keeps proxies, and a user's PATH may not look
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot go on; the text is for the person who started it."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core bears what: the proxies have one of their own, everything else is on the other."""

    load: int
    proxies: int


def find_cores() -> Cores:
    """Take the first two cores this process may use; raises BenchError where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("the benchmark needs two cores, one for the proxies and one for load and backend; here is one")
    return Cores(load=allowed[0], proxies=allowed[1])


def find_program(name: str) -> str | None:
    """Return the path of an installed program."""
    return shutil.which(name) or shutil.which(name, path=_MORE_PLACES)


def need_program(name: str, package: str) -> str:
    """Return the path of a program the benchmark cannot do without; raises BenchError that says how to get it."""
    found = find_program(name)
    if found is None:
        raise BenchError(f"the benchmark needs {name}: apt-get install {package}")
    return found


def free_port() -> int:
    """Return a port nobody listens on, below those the kernel gives to clients."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Tell whether somebody listens there; asks the kernel, as a connection made to find out would be one too many."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(each[3] == _LISTEN and int(each[1].rpartition(":")[2], 16) == port for each in lines)


@dataclass(frozen=True, slots=True)
class Process:
    """One started program and what it writes to."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    def wait_until_listening(self, *ports: int) -> None:
        """Wait for listeners; raises BenchError with the last words of a program that ended instead."""
        deadline = time.monotonic() + PATIENCE
        while not all(map(is_listening, ports)):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not come up: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        """Return the end of its output."""
        return self.output.read_text(errors="replace")[-600:].strip() or "it said nothing"


class Processes:
    """Everything started; leaving ends it all, whatever happened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.popen.terminate()
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(_GRACE)
            with contextlib.suppress(ProcessLookupError):  # of its own session: what it started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.popen.wait()

    def start(
        self, command: Sequence[str | Path], *, core: int, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program on one core. It is in a session of its own, so Ctrl-C at the terminal is for us alone.

        `setpriv` has the kernel end it should the benchmark be killed outright. Call this on the main thread only: the
        kernel means the thread that started it.
        """
        name = Path(command[0]).name
        output = self._directory / f"{name}-{len(self._started)}.log"
        with output.open("ab") as log:
            popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        process = Process(name, popen, output)
        self._started.append(process)
        return process


def family(pid: int) -> list[int]:
    """Return a process and all its descendants that live."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of CPU that processes have used."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """User and system time together. The kernel knows the sum exactly; its parts it samples by ticks."""
        return self.user + self.system

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.user - earlier.user, self.system - earlier.system)


def cpu_time(pids: Iterable[int]) -> CpuTime:
    """Add up the CPU time of processes and their descendants, those that ended and were waited for included."""
    user = system = 0
    for pid in (each for root in pids for each in family(root)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # proc_pid_stat(5): the name in parentheses may hold anything; utime, stime, cutime, cstime are 14 to 17
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return CpuTime(user / _TICKS, system / _TICKS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory: resident, the share of it when shared pages are split among those who map them, and the own."""

    rss: int
    pss: int
    own: int


def memory(pids: Iterable[int]) -> Memory:
    """Add up the memory of processes and their descendants, as the kernel tells it in smaps_rollup."""
    kibibytes = dict.fromkeys(("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"), 0)
    for pid in (each for root in pids for each in family(root)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, amount = line.split()[:2]
                if name in kibibytes:
                    kibibytes[name] += int(amount)
    rss, pss, clean, dirty = (each << 10 for each in kibibytes.values())
    return Memory(rss, pss, clean + dirty)
