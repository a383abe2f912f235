"""Who is told of sampled exchanges that are over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.tracing.otlp import write_span
from meshproxy.tracing.spans import Clocks, Sampled, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Exchange
    from meshproxy.http.trace_context import Sampling
    from meshproxy.tracing.exporter import Exporter
    from meshproxy.tracing.spans import Scene


@dataclass(frozen=True, slots=True)
class Tracer:
    """Makes spans and has them sent; `clock` is what exchanges are timed by."""

    sampling: Sampling
    exporter: Exporter
    clock: Callable[[], float]

    def tell(self, exchange: Exchange, scene: Scene) -> None:
        """Take an exchange; nothing is done about one that is not sampled, or was no readable request."""
        trace, head = exchange.trace, exchange.head
        if trace is not None and head is not None:
            clocks = Clocks(time.time_ns(), self.clock())
            self.exporter.put(map(write_span, spans_of(Sampled(exchange, trace, head, scene, clocks))))
