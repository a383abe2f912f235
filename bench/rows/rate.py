"""Latency at a constant rate: what a pair adds to each percentile over asking the backend itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.backend import start_small
from bench.contest import line_up
from bench.product import NAME
from bench.results import Block
from bench.steady import percentile, run_steadily

if TYPE_CHECKING:
    from bench.contest import Contest, Sample
    from bench.pair import Mode
    from bench.stage import Stage

CONNECTIONS: Final = 32
_PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_NO_PROXY: Final = "no proxy"


@dataclass(frozen=True, slots=True)
class RateRow:
    """So many requests per second, due at fixed times, over 32 kept connections."""

    name: str
    title: str
    mode: Mode

    def run(self, contest: Contest) -> list[Block]:
        """Measure everybody who can carry the mode; no proxy is in the same rounds and taken off."""
        with contest.stage() as stage:
            backend = start_small(stage)
            pairs = line_up(stage, contest.contestants(self.mode), self.mode, backend)
            turns = {name: partial(_ask, stage, pair.entry) for name, pair in pairs.items()}
            turns[_NO_PROXY] = partial(_ask, stage, backend)
            samples = contest.take_turns(turns)
        blocks = []
        for which, by_name in samples.items():
            direct = by_name.pop(_NO_PROXY)
            added = {
                name: [through - without for through, without in zip(values, direct, strict=True)]
                for name, values in by_name.items()
            }
            title = f"{self.title}, {contest.options.rate:,}/s, {which}"
            blocks.append(
                Block(self.name, title, "us added over no proxy", NAME, added, also={"no proxy": {which: direct}})
            )
        return blocks


def _ask(stage: Stage, port: int) -> Sample:
    options = stage.options
    run_steadily(port, rate=options.rate, seconds=1, connections=CONNECTIONS)  # pools emptied during the others' turns
    latencies = run_steadily(port, rate=options.rate, seconds=options.seconds, connections=CONNECTIONS)
    stage.empty_logs()
    return {which: percentile(latencies, share) for which, share in _PERCENTILES.items()}
