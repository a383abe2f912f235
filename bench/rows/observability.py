"""What it costs to be told: access log, numbers, histograms and traces at 1 %, beside all of it turned off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.contest import line_up
from bench.pair import Mode
from bench.product import NAME, Product
from bench.results import Block, Must
from bench.rows.cpu import CPU, KEPT, measure

if TYPE_CHECKING:
    from bench.contest import Contest

_OFF: Final = "all off"
_NO_TRACES: Final = "no traces"
_SHARE: Final = 0.01
_MUSTS: Final = (Must(1.15, 1.10, (_OFF,)),)

# Every switch there is. Decisions are counted in any case: that is what an allow-list is looked after by.
_NOTHING_TOLD: Final = '[telemetry]\naccess_log = "off"\nrequest_metrics = false\nseries = false\n'


@dataclass(frozen=True, slots=True)
class ObservabilityRow:
    """The product as it tells most, beside itself as it tells least; both sidecars of each pair alike."""

    name: str
    title: str

    def run(self, contest: Contest) -> list[Block]:
        """Measure them in turns."""
        with contest.stage() as stage:
            backend = KEPT.backend(stage)
            # The backend takes spans, too: it is on the load's core, as any collector would be elsewhere.
            tracing = f'[tracing]\nendpoint = "http://127.0.0.1:{backend}"\nsample = {_SHARE}\n'
            forms = [Product(tables=tracing), Product(_NO_TRACES), Product(_OFF, tables=_NOTHING_TOLD)]
            pairs = line_up(stage, forms, Mode.HTTP, backend)
            samples = contest.take_turns({name: partial(measure, stage, pair, KEPT) for name, pair in pairs.items()})
        cpu = samples.pop(CPU)
        return [Block(self.name, self.title, KEPT.unit, NAME, cpu, musts=_MUSTS, also=samples)]
