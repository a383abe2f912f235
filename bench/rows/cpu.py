"""CPU time of both proxies of a pair for a unit of work; the peers do the same work in the same rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from bench.backend import start_bulk, start_small
from bench.bulk import BULK_BYTES
from bench.contest import line_up
from bench.load import Direction, run_wrk, transfer
from bench.processes import cpu_time
from bench.product import NAME
from bench.results import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest, Sample
    from bench.pair import Mode, Pair
    from bench.results import Must
    from bench.stage import Stage

_CPU: Final = "cpu"
_MEGABYTE: Final = 1e6
_MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Done:
    """How much work was done, and what else was seen."""

    amount: float
    also: Sample


class Load(Protocol):
    """A kind of work that a pair is given."""

    @property
    def unit(self) -> str:
        """What the CPU time is per."""
        ...

    def backend(self, stage: Stage) -> int:
        """Start what answers; returns its port."""
        ...

    def put(self, pair: Pair, seconds: int) -> Done:
        """Put the load on a pair for about so long; raises BenchError on any wrong answer."""
        ...


@dataclass(frozen=True, slots=True)
class Small:
    """wrk asking for 1 KiB over some connections, which are kept, or made anew for each request."""

    connections: int = 32
    keeps: bool = True
    unit: str = "us CPU/request"

    def backend(self, stage: Stage) -> int:
        """Start the small backend."""
        return start_small(stage)

    def put(self, pair: Pair, seconds: int) -> Done:
        """Run wrk."""
        fields = () if self.keeps else ("Connection: close",)
        said = run_wrk(pair.entry, connections=self.connections, seconds=seconds, fields=fields)
        return Done(said.requests, {"requests/s": said.per_second, "p50 us": said.p50, "p99 us": said.p99})


@dataclass(frozen=True, slots=True)
class Bulk:
    """100 MiB at a time over one connection."""

    direction: Direction
    chunked: bool = False
    unit: str = "us CPU/MB"

    def backend(self, stage: Stage) -> int:
        """Start the bulk backend."""
        return start_bulk(stage)

    def put(self, pair: Pair, seconds: int) -> Done:
        """Transfer until the time is over, at least once."""
        begun, transfers = time.perf_counter(), 0
        while transfers == 0 or time.perf_counter() - begun < seconds:
            transfer(pair.entry, self.direction, chunked=self.chunked)
            transfers += 1
        amount = transfers * BULK_BYTES / _MEGABYTE
        return Done(amount, {"MB/s": amount / (time.perf_counter() - begun)})


@dataclass(frozen=True, slots=True)
class CpuRow:
    """One kind of work in one mode."""

    name: str
    title: str
    mode: Mode
    load: Load
    musts: Sequence[Must] = ()

    def run(self, contest: Contest) -> list[Block]:
        """Measure everybody who can carry the mode."""
        with contest.stage() as stage:
            pairs = line_up(stage, contest.contestants(self.mode), self.mode, self.load.backend(stage))
            samples = contest.take_turns(
                {name: partial(measure, stage, pair, self.load) for name, pair in pairs.items()}
            )
        cpu = samples.pop(_CPU)
        return [Block(self.name, self.title, self.load.unit, NAME, cpu, musts=tuple(self.musts), also=samples)]


def measure(stage: Stage, pair: Pair, load: Load) -> Sample:
    """Give a pair its turn; returns its CPU time in microseconds per unit of work, and what else was seen."""
    before = cpu_time(pair.pids)
    done = load.put(pair, stage.options.seconds)
    used = cpu_time(pair.pids) - before
    stage.empty_logs()
    return {_CPU: used.total / _MICRO / done.amount, **done.also}
