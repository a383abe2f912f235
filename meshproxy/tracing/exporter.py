"""Spans on their way to a collector: a bounded queue, and one task that sends what waits, in batches.

Traffic never waits for it: what there is no room for is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from meshproxy.tracing.delivery import Again, NotSent, Sent, what_follows
from meshproxy.tracing.otlp import write_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.tracing.delivery import Reply
    from meshproxy.tracing.otlp import Attributes

# As OpenTelemetry's batch processor has them by default; but whoever looks for his request has it after a second.
CAPACITY: Final = 2048  # spans that wait
BATCH: Final = 512
EVERY: Final = 1.0  # seconds that a first span waits for others

MOST_BYTES: Final = 4 * 1024 * 1024
_LAST_WORDS: Final = 1.0  # seconds for what is left at the end
_TOLD_EVERY: Final = 60.0  # seconds between two lines that say it does not work


class Collector(Protocol):
    """Takes batches."""

    async def send(self, body: bytes) -> Reply:
        """Send one; raises NotSent."""


class Exporter:
    """Sends spans, as they were written, to a collector; `resource` says whose they are by now."""

    def __init__(
        self,
        collector: Collector,
        resource: Callable[[], Attributes],
        *,
        log: Logger,
        metrics: Metrics,
        rng: Random,
        capacity: int = CAPACITY,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._collector = collector
        self._resource = resource
        self._log = log
        self._rng = rng
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._in_hand: list[bytes] = []  # on their way, or waiting for another try
        self._news = trio.Event()
        self._full = trio.Event()
        self._became = {what: metrics.spans.labels(what) for what in ("sent", "dropped", "rejected", "lost")}
        self._exports = metrics.trace_exports
        self._failing_since: float | None = None
        self._told_at = float("-inf")
        waiting = metrics.spans_waiting.labels()
        metrics.before_scrape(lambda: waiting.set(len(self._waiting)))

    def __repr__(self) -> str:
        return f"<Exporter waiting={len(self._waiting)}/{self._capacity} failing={self._failing_since is not None}>"

    def put(self, spans: Iterable[bytes]) -> None:
        """Take spans that are to be sent, or drop those for which there is no room."""
        for span in spans:
            if len(self._waiting) >= self._capacity or self._bytes + len(span) > self._most_bytes:
                self._became["dropped"].inc()
                continue
            self._waiting.append(span)
            self._bytes += len(span)
        self._news.set()
        if len(self._waiting) >= BATCH:
            self._full.set()

    async def run(self) -> None:
        """Send until cancelled; what is left then has a second."""
        try:
            while True:
                await self._news.wait()
                with trio.move_on_after(EVERY):
                    await self._full.wait()
                self._in_hand = self._take()
                await self._deliver(self._in_hand)
                self._in_hand = []
        finally:
            with trio.move_on_after(_LAST_WORDS) as last:
                last.shield = True
                while self._in_hand or self._waiting:
                    self._in_hand = self._in_hand or self._take()
                    await self._say_last(self._in_hand)
                    self._in_hand = []
            self._became["lost"].inc(len(self._in_hand) + len(self._waiting))

    def _take(self) -> list[bytes]:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._bytes -= sum(map(len, batch))
        if not self._waiting:
            self._news = trio.Event()
        if len(self._waiting) < BATCH:
            self._full = trio.Event()
        return batch

    async def _deliver(self, batch: Sequence[bytes]) -> None:
        """Send a batch, again and again while that may help."""
        tries = 0
        while batch:
            tries += 1
            reply = await self._try(batch)
            verdict = what_follows(reply, tries, self._rng.random())
            if isinstance(verdict, Again):
                self._exports.labels("again").inc()
                self._complain(verdict.why)
                await trio.sleep(verdict.after)
                continue
            if isinstance(verdict, Sent):
                self._has_sent(len(batch), verdict)
            else:
                self._exports.labels("refused" if verdict.refused else "failed").inc()
                self._became["rejected" if verdict.refused else "lost"].inc(len(batch))
                self._complain(verdict.why)
            return

    async def _say_last(self, batch: Sequence[bytes]) -> None:
        verdict = what_follows(await self._try(batch), 1, self._rng.random())
        if isinstance(verdict, Sent):
            self._has_sent(len(batch), verdict)
        else:
            self._became["lost"].inc(len(batch))

    async def _try(self, batch: Sequence[bytes]) -> Reply | NotSent:
        try:
            return await self._collector.send(write_batch(self._resource(), batch))
        except NotSent as why:
            return why

    def _has_sent(self, size: int, sent: Sent) -> None:
        rejected = min(sent.rejected, size)
        self._exports.labels("sent").inc()
        self._became["sent"].inc(size - rejected)
        self._became["rejected"].inc(rejected)
        if rejected:
            self._complain(f"it did not take {rejected} of {size} spans: {sent.reason or 'it does not say why'}")
        elif self._failing_since is not None:
            lasted = round(trio.current_time() - self._failing_since, 1)
            self._failing_since, self._told_at = None, float("-inf")
            self._log.info("traces_sent_again", after_failing_for=lasted)

    def _complain(self, why: str) -> None:
        now = trio.current_time()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._told_at < _TOLD_EVERY:
            return
        self._told_at = now
        self._log.warning(
            "traces_not_sent",
            error=why,
            collector=repr(self._collector),
            waiting=len(self._waiting),
            dropped=int(self._became["dropped"].value),
            remedy="see that the collector runs and that `endpoint` in [tracing] leads to it; traffic is not affected",
        )
