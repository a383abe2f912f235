"""Whether one that moves bulk makes the others wait: 31 callers with small requests beside one endless download."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.backend import PYTHONPATH, start_mixed
from bench.contest import line_up
from bench.product import NAME
from bench.results import Block
from bench.steady import percentile, run_steadily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest, Sample
    from bench.pair import Mode, Pair
    from bench.results import Must
    from bench.stage import Stage

SMALL_ONES: Final = 31
RATE: Final = 500  # requests per second of all small ones together: little, as it is their waiting that is looked at
_P99: Final = "p99"
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class FairnessRow:
    """The p99 of the small ones, and that the bulk stream is not starved for it."""

    name: str
    title: str
    mode: Mode
    musts: Sequence[Must] = ()

    def run(self, contest: Contest) -> list[Block]:
        """Measure everybody who can carry the mode."""
        with contest.stage() as stage:
            pairs = line_up(stage, contest.contestants(self.mode), self.mode, start_mixed(stage))
            samples = contest.take_turns({name: partial(_ask, stage, pair) for name, pair in pairs.items()})
        waits = samples.pop(_P99)
        return [
            Block(self.name, self.title, "us, p99 of the small", NAME, waits, musts=tuple(self.musts), also=samples)
        ]


def _ask(stage: Stage, pair: Pair) -> Sample:
    options = stage.options
    run_steadily(pair.entry, rate=RATE, seconds=1, connections=SMALL_ONES)  # pools emptied while the others had turns
    bulk = stage.processes.start(
        [sys.executable, "-m", "bench.stream", str(pair.entry)], core=stage.cores.load, environment=PYTHONPATH
    )
    try:
        latencies = run_steadily(pair.entry, rate=RATE, seconds=options.seconds, connections=SMALL_ONES)
    finally:
        bulk.popen.terminate()
        bulk.popen.wait()
    megabytes_per_second = float(bulk.output.read_text().split()[-1]) / _MEGABYTE
    stage.empty_logs()
    return {_P99: percentile(latencies, 0.99), "p50 us": percentile(latencies, 0.5), "bulk MB/s": megabytes_per_second}
