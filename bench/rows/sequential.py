"""One connection, one request after the other: how long a single caller waits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.backend import start_small
from bench.contest import line_up
from bench.floor import NAME as FLOOR
from bench.floor import measure_cryptography, start_pumps
from bench.load import run_wrk
from bench.processes import cpu_time
from bench.product import NAME
from bench.results import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest, Sample
    from bench.pair import Mode, Pair
    from bench.results import Must
    from bench.stage import Stage

NO_PROXY: Final = "no proxy"
_P50: Final = "p50"
_NOTE: Final = (
    "Floor: no proxy, and what the kernel takes in a bare pump and OpenSSL for the records, one after the other."
)


@dataclass(frozen=True, slots=True)
class SequentialRow:
    """The median wait of a caller who asks again as soon as it is answered."""

    name: str
    title: str
    mode: Mode
    musts: Sequence[Must] = ()

    def run(self, contest: Contest) -> list[Block]:
        """Measure everybody who can carry the mode, nobody in between, and the floor."""
        cryptography = measure_cryptography(contest.cores.proxies).exchange
        with contest.stage() as stage:
            backend = start_small(stage)
            pairs = line_up(stage, contest.contestants(self.mode), self.mode, backend)
            turns = {name: partial(_wait, stage, pair.entry) for name, pair in pairs.items()}
            turns[NO_PROXY] = partial(_wait, stage, backend)
            turns[FLOOR] = partial(_kernel_time, stage, start_pumps(stage, backend))
            samples = contest.take_turns(turns)
        waits = samples.pop(_P50)
        kernel = waits.pop(FLOOR)
        lowest = [direct + system + cryptography for direct, system in zip(waits[NO_PROXY], kernel, strict=True)]
        musts = tuple(self.musts)
        return [Block(self.name, self.title, "us, p50", NAME, waits, lowest, musts=musts, also=samples, note=_NOTE)]


def _wait(stage: Stage, port: int) -> Sample:
    said = run_wrk(port, connections=1, seconds=stage.options.seconds)
    stage.empty_logs()
    return {_P50: said.p50, "p90 us": said.p90, "p99 us": said.p99}


def _kernel_time(stage: Stage, pumps: Pair) -> Sample:
    before = cpu_time(pumps.pids)
    said = run_wrk(pumps.entry, connections=1, seconds=stage.options.seconds)
    return {_P50: (cpu_time(pumps.pids) - before).system * 1e6 / said.requests}
