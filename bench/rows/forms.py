"""The product beside itself in another form: two workers beside one, h11 alone beside the fast lane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.contest import line_up
from bench.pair import Mode
from bench.processes import BenchError, cpu_time, family
from bench.product import NAME, Product
from bench.results import Block, Must
from bench.rows.cpu import CPU, KEPT, Small, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest, Sample
    from bench.pair import Pair
    from bench.rows.cpu import Load
    from bench.stage import Stage

_ONE: Final = "1 worker"
_TWO: Final = "2 workers"
_SPLIT: Final = "split"
_LOADS: Final[Sequence[tuple[str, Load]]] = (
    ("32 kept connections", KEPT),
    ("a new connection for each request", Small(connections=16, keeps=False)),
)


@dataclass(frozen=True, slots=True)
class WorkersRow:
    """What a second worker costs, and whether it takes its half; all are on one core, so it can bring nothing here."""

    name: str
    title: str

    def run(self, contest: Contest) -> list[Block]:
        """Measure one worker and two in turns."""
        forms = [Product(_ONE), Product(_TWO, runtime="workers = 2")]
        return [block for what, load in _LOADS for block in self._run_load(contest, forms, what, load)]

    def _run_load(self, contest: Contest, forms: Sequence[Product], what: str, load: Load) -> list[Block]:
        with contest.stage() as stage:
            try:
                pairs = line_up(stage, forms, Mode.TCP, load.backend(stage))
            except BenchError as error:
                if "workers" in str(error):
                    raise BenchError("this version accepts workers = 1 only") from None
                raise
            samples = contest.take_turns(
                {name: partial(_measure_split, stage, pair, load) for name, pair in pairs.items()}
            )
        cpu, split = samples.pop(CPU), samples.pop(_SPLIT)
        title = f"{self.title}, {what}"
        busier = {_TWO: split[_TWO]}
        return [
            Block(self.name, title, load.unit, _TWO, cpu, musts=(Must(1.1, None, (_ONE,)),), also=samples),
            Block(self.name, title, "% of CPU, the busier", _TWO, busier, musts=(Must(60.0),)),
        ]


def _measure_split(stage: Stage, pair: Pair, load: Load) -> Sample:
    """Measure CPU per unit, and of each sidecar's workers what percentage the busiest took; the worse side counts."""
    workers = [[pid for pid in family(root) if pid != root] for root in pair.pids]
    before = [[_own_cpu(pid) for pid in side] for side in workers]
    sample = measure(stage, pair, load)
    shares = [0.0]
    for side, then in zip(workers, before, strict=True):
        used = [_own_cpu(pid) - was for pid, was in zip(side, then, strict=True)]
        if len(used) > 1 and sum(used) > 0:
            shares.append(100 * max(used) / sum(used))
    return {**sample, _SPLIT: max(shares)}


def _own_cpu(pid: int) -> float:
    return cpu_time([pid]).total


@dataclass(frozen=True, slots=True)
class LanesRow:
    """The product where all heads are familiar, as wrk's are; where none ever is; and without the fast lane."""

    name: str
    title: str

    def run(self, contest: Contest) -> list[Block]:
        """Measure them in turns."""
        forms = [
            Product(),
            Product("every head new", launcher=("-m", "bench.unfamiliar")),
            Product("h11 only", launcher=("-m", "bench.h11_only")),
        ]
        with contest.stage() as stage:
            pairs = line_up(stage, forms, Mode.HTTP, KEPT.backend(stage))
            samples = contest.take_turns({name: partial(measure, stage, pair, KEPT) for name, pair in pairs.items()})
        cpu = samples.pop(CPU)
        return [Block(self.name, self.title, KEPT.unit, NAME, cpu, also=samples)]
