"""Honest callers at a steady pace, and a service that answers at once: one process, one thread.

    python -m tests.scenarios.steady ADDRESS PID DIRECTORY PORT CALLERS PER_SECOND+NEW_PER_SECOND

It serves on PORT (a plain service for the sidecar at ADDRESS), and calls that sidecar over TLS with the identity in
DIRECTORY: CALLERS connections that are kept, with PER_SECOND requests on all of them together, and NEW_PER_SECOND
callers who connect, ask once and go. It reads what to do from its standard input, a line each: a number, and it looks
for so many seconds how that goes, and prints a line of JSON, see `Look`; "again" and a number, and before that all who
are kept hang up, and come back within a second.

A request is timed from the moment it was due, so that one that has to wait for its caller's last one is late too; but
what was due while this process was not given the processor is due when it gets it. PID is the sidecar: it is looked at
how long it was kept waiting by others. Scenarios use all this by `apart`.
"""

from __future__ import annotations

import gc
import heapq
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.scenarios.closed_loop import Caller, Crew, quantile

WINDOW = 5.0  # seconds
RECONNECTING = 1.0  # seconds
_ASLEEP = 0.005  # seconds; so late it is this process that was


@dataclass
class Look:
    """How it went for some seconds, in windows of five; all times in ms."""

    seconds: float = 0.0
    taken: float = 0.0  # share of the time in which others had the processor that we would have used
    due: int = 0  # requests that should have been made
    refused: int = 0  # 503 and 429
    cut: int = 0
    wrong: int = 0
    requests: list[list[float]] = field(default_factory=list)
    connecting: list[list[float]] = field(default_factory=list)  # connection, handshake, request and answer
    back_after: list[float] = field(default_factory=list)  # of each who came again: until he was served

    @property
    def served(self) -> int:
        return sum(map(len, self.requests))

    @property
    def p99(self) -> float:
        """Of the requests; see `best`."""
        return best(self.requests)

    @property
    def new_p99(self) -> float:
        """Of those who have just connected; see `best`."""
        return best(self.connecting)

    def __str__(self) -> str:
        told = f"{self.served}/{self.due} served, p99 {self.p99:.1f} ms (worst window {_p99s(self.requests)[-1]:.0f})"
        if any(self.connecting):
            told += f", of new ones {self.new_p99:.1f} ms (worst {_p99s(self.connecting)[-1]:.0f})"
        if self.back_after:
            told += f", all back after {max(self.back_after) / 1000:.1f} s"
        return f"{told}; {self.refused} refused, {self.cut} cut, {self.wrong} wrong, {self.taken:.0%} taken by others"


def best(windows: list[list[float]]) -> float:
    """The p99 of the best window: what a machine that is busy with other things adds to others is not the sidecar's."""
    return _p99s(windows)[0]


def _p99s(windows: list[list[float]]) -> list[float]:
    most = max(map(len, windows), default=0)
    return sorted(quantile(sorted(each), 0.99) for each in windows if len(each) > most / 2) or [0.0]


class Paced(Caller):
    """One of them; `due_at` is when the request that is on its way should have begun."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        self.due_at = 0.0
        self.waits: deque[float] = deque()  # when requests were due that could not be made yet
        self.busy = True  # with a request, or with coming
        self.is_new = False  # asks once, and goes
        self.comes_back = False

    def come_at(self, due: float) -> None:
        self.due_at, self.busy = due, True
        self.come()

    def ask_at(self, due: float) -> None:
        if self.busy:
            self.waits.append(due)
            return
        self.due_at, self.busy = due, True
        self.ask()


class Pace(Crew):
    """All of them, and the service."""

    def __init__(
        self, address: tuple[str, int], pid: int, directory: Path, port: int, *, callers: int, rates: str
    ) -> None:
        super().__init__(address, directory, port)
        self.pid = pid
        self.per_second, self.new_per_second = map(float, rates.split("+"))
        self.seen = Look(requests=[[]], connecting=[[]])
        self.errands: list[tuple[float, int, str, Paced | None]] = []  # when, whose turn among equals, what, who
        self.errand_number = self.turns = 0
        self.newcomers: set[Paced] = set()
        self.kept = [Paced(self) for _ in range(callers)]
        for caller in self.kept:
            caller.come_at(time.perf_counter())
            self.work_until(0.0)

    def later(self, when: float, what: str, who: Paced | None = None) -> None:
        self.errand_number += 1
        heapq.heappush(self.errands, (when, self.errand_number, what, who))

    def taken(self) -> float:
        """Seconds for which one of us two would have run, but for others (proc_pid_schedstat(5), proc_stat(5))."""
        waited = sum(int(Path(f"/proc/{who}/schedstat").read_text().split()[1]) for who in (self.pid, "self")) / 1e9
        stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / 100
        return waited + stolen

    def answered(self, caller: Caller, status: bytes, body: bytes) -> bool:
        assert isinstance(caller, Paced)
        look, took = self.seen, (time.perf_counter() - caller.due_at) * 1000
        if status in {b"503", b"429"}:
            look.refused += 1
        elif status != b"200" or body != b"served":
            look.wrong += 1
        elif caller.is_new:
            look.connecting[-1].append(took)
        elif caller.comes_back:
            look.back_after.append(took)
            caller.comes_back = False
        else:
            look.requests[-1].append(took)
        if caller.is_new:
            self.newcomers.discard(caller)
            caller.leave()
            return False
        caller.busy = bool(caller.waits)
        if caller.busy:
            caller.due_at = caller.waits.popleft()
        return caller.busy

    def cut(self, caller: Caller) -> None:
        assert isinstance(caller, Paced)
        self.seen.cut += 1
        caller.busy = True
        self.newcomers.discard(caller)
        if not caller.is_new:
            self.later(time.perf_counter() + 0.1, "come", caller)

    def run_errand(self, due: float, what: str, who: Paced | None) -> None:
        if what == "ask":
            self.seen.due += 1
            self.turns += 1
            self.kept[self.turns % len(self.kept)].ask_at(due)
            self.later(due + 1 / self.per_second, "ask")
        elif what == "new":
            caller = Paced(self)
            caller.is_new = True
            self.newcomers.add(caller)
            caller.come_at(due)
            self.later(due + 1 / self.new_per_second, "new")
        elif who is not None and who.sock is None:
            # Who comes again is timed from the first attempt on.
            who.come_at(who.due_at if who.comes_back else due)

    def work_until(self, until: float) -> None:
        """Do what is due now, and hear what comes, until then at the latest."""
        while self.errands and self.errands[0][0] <= (now := time.perf_counter()):
            due, _, what, who = heapq.heappop(self.errands)
            self.run_errand(due if now - due < _ASLEEP else now, what, who)
        if self.errands:
            until = min(until, self.errands[0][0])
        for key, _ in self.selector.select(max(until - time.perf_counter(), 0.0)):
            key.data()

    def look(self, seconds: float) -> Look:
        look = self.seen = Look(requests=[[]], connecting=[[]])
        taken, began = self.taken(), time.perf_counter()
        if self.per_second:
            self.later(began, "ask")
        if self.new_per_second:
            self.later(began, "new")
        while (now := time.perf_counter()) < began + seconds:
            if now > began + len(look.requests) * WINDOW:
                look.requests.append([])
                look.connecting.append([])
            self.work_until(began + seconds)
        look.seconds = now - began
        look.taken = (self.taken() - taken) / look.seconds
        self.errands = sorted(errand for errand in self.errands if errand[2] == "come")
        return look

    def settle(self) -> None:
        """Go on until nobody is busy."""
        while self.newcomers or any(caller.busy for caller in self.kept):
            self.work_until(time.perf_counter() + 0.1)

    def hang_up(self) -> None:
        """All who are kept go now, and come back within a second."""
        now = time.perf_counter()
        for number, caller in enumerate(self.kept):
            caller.leave()
            caller.comes_back = caller.busy = True
            caller.waits.clear()
            caller.due_at = now + RECONNECTING * number / len(self.kept)
            self.later(caller.due_at, "come", caller)


def main(arguments: list[str]) -> None:
    address, pid, directory, port, callers, rates = arguments
    host, _, number = address.rpartition(":")
    crew = Pace((host, int(number)), int(pid), Path(directory), int(port), callers=int(callers), rates=rates)
    crew.settle()
    gc.disable()  # its pauses would be told as ours
    print(json.dumps(asdict(Look())), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "again":
            crew.hang_up()
        print(json.dumps(asdict(crew.look(float(words[-1])))), flush=True)
        crew.settle()
        gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
