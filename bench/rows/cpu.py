"""CPU time of both proxies of a pair for a unit of work; the peers do the same work in the same rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from bench import floor
from bench.backend import start_bulk, start_small
from bench.bulk import BULK_BYTES
from bench.contest import line_up
from bench.floor import measure_cryptography
from bench.load import Direction, run_wrk, transfer
from bench.processes import cpu_time
from bench.product import NAME
from bench.results import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest, Sample
    from bench.floor import Cryptography
    from bench.pair import Mode, Pair
    from bench.results import Must
    from bench.stage import Stage

CPU: Final = "cpu"
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

    @property
    def pools(self) -> bool:
        """Whether it can go over connections that were there before: a turn begins with an uncounted second."""
        ...

    def backend(self, stage: Stage) -> int:
        """Start what answers; returns its port."""
        ...

    def put(self, pair: Pair, seconds: int) -> Done:
        """Put the load on a pair for about so long; raises BenchError on any wrong answer."""
        ...

    def cryptography(self, costs: Cryptography) -> float:
        """Tell the microseconds that a unit of this work takes in cryptography alone."""
        ...


@dataclass(frozen=True, slots=True)
class Small:
    """wrk asking for 1 KiB over some connections, which are kept, or made anew for each request."""

    connections: int = 32
    keeps: bool = True
    unit: str = "us CPU/request"
    pools: bool = True

    def backend(self, stage: Stage) -> int:
        """Start the small backend."""
        return start_small(stage)

    def put(self, pair: Pair, seconds: int) -> Done:
        """Run wrk."""
        fields = () if self.keeps else ("Connection: close",)
        said = run_wrk(pair.entry, connections=self.connections, seconds=seconds, fields=fields)
        return Done(said.requests, {"requests/s": said.per_second, "p50 us": said.p50, "p99 us": said.p99})

    def cryptography(self, costs: Cryptography) -> float:
        """Two records, and a handshake where connections are not kept."""
        return costs.exchange + (0 if self.keeps else costs.handshake)


@dataclass(frozen=True, slots=True)
class Bulk:
    """100 MiB at a time over one connection."""

    direction: Direction
    chunked: bool = False
    unit: str = "us CPU/MB"
    pools: bool = False

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

    def cryptography(self, costs: Cryptography) -> float:
        """Full records."""
        return costs.bulk(_MEGABYTE)


KEPT: Final = Small()
CLOSED: Final = Small(keeps=False)

# What clients that close cost behind a pool: a kept exchange, and a quarter of what a pair of pumps pays to accept
# twice, connect twice and close four sockets, as only the first accept and close are left of that.
POOLED_FLOOR: Final = ((KEPT, 0.75), (CLOSED, 0.25))


@dataclass(frozen=True, slots=True)
class CpuRow:
    """One kind of work in one mode.

    kernel_floor    the loads, each with its share, whose system time in a bare pump is the kernel's part of the floor
    crypto_floor    the load whose cryptography is the other part; both are the row's own load if left out
    """

    name: str
    title: str
    mode: Mode
    load: Load
    musts: Sequence[Must] = ()
    kernel_floor: Sequence[tuple[Load, float]] = ()
    crypto_floor: Load | None = None

    def run(self, contest: Contest) -> list[Block]:
        """Measure everybody who can carry the mode, and the floor."""
        costs = measure_cryptography(contest.cores.proxies)
        with contest.stage() as stage:
            backend = self.load.backend(stage)
            pairs = line_up(stage, contest.contestants(self.mode), self.mode, backend)
            turns = {name: partial(measure, stage, pair, self.load) for name, pair in pairs.items()}
            turns[floor.NAME] = partial(self._measure_floor, stage, floor.start_pumps(stage, backend), costs)
            samples = contest.take_turns(turns)
        cpu = samples.pop(CPU)
        lowest = cpu.pop(floor.NAME)
        return [Block(self.name, self.title, self.load.unit, NAME, cpu, lowest, musts=tuple(self.musts), also=samples)]

    def _measure_floor(self, stage: Stage, pumps: Pair, costs: Cryptography) -> Sample:
        kernel = 0.0
        for load, share in self.kernel_floor or ((self.load, 1.0),):
            before = cpu_time(pumps.pids)
            done = load.put(pumps, stage.options.seconds)
            kernel += share * (cpu_time(pumps.pids) - before).system / _MICRO / done.amount
        cryptography = (self.crypto_floor or self.load).cryptography(costs)
        return {CPU: kernel + cryptography, "floor's cryptography, us": cryptography}


def measure(stage: Stage, pair: Pair, load: Load) -> Sample:
    """Give a pair its turn; returns its CPU time in microseconds per unit of work, and what else was seen."""
    if load.pools:
        load.put(pair, 1)
    before = cpu_time(pair.pids)
    done = load.put(pair, stage.options.seconds)
    used = cpu_time(pair.pids) - before
    stage.empty_logs()
    return {CPU: used.total / _MICRO / done.amount, **done.also}
