"""Spans wait within bounds, go out in batches, and what becomes of each is counted."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.telemetry.metrics import Metrics
from meshproxy.tracing.delivery import NotSent, Reply
from meshproxy.tracing.exporter import BATCH, CAPACITY, EVERY, Exporter
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock


class Answering:
    """A collector that answers as it is told; what it was sent is kept with the time it came."""

    def __init__(self, *answers: Reply | NotSent) -> None:
        self.answers: Iterator[Reply | NotSent] = iter(answers)
        self.came: list[tuple[float, list[int]]] = []
        self.silent = False

    async def send(self, body: bytes) -> Reply:
        if self.silent:
            await trio.sleep_forever()
        (of_resource,) = json.loads(body)["resourceSpans"]
        self.came.append((trio.current_time(), of_resource["scopeSpans"][0]["spans"]))
        answer = next(self.answers, Reply(200))
        if isinstance(answer, NotSent):
            raise answer
        return answer


class Bench:
    def __init__(self, collector: Answering, *, capacity: int = CAPACITY, most_bytes: int = 1 << 20) -> None:
        self.metrics = Metrics()
        log, self.heard = listening_log()
        self.exporter = Exporter(
            collector,
            lambda: {"service.name": "web"},
            log=log,
            metrics=self.metrics,
            rng=random.Random(1),
            capacity=capacity,
            most_bytes=most_bytes,
        )

    def became(self) -> dict[str, int]:
        return {labels[0]: int(number.value) for labels, number in self.metrics.spans.numbers() if number.value}

    def exports(self) -> dict[str, int]:
        return {labels[0]: int(number.value) for labels, number in self.metrics.trace_exports.numbers()}

    @property
    def waiting(self) -> float:
        self.metrics.refresh()
        return self.metrics.spans_waiting.labels().value


def spans(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


async def test_a_first_span_waits_for_others(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    collector = Answering()
    bench = Bench(collector)
    nursery.start_soon(bench.exporter.run)
    bench.exporter.put(spans(2))
    await trio.sleep(EVERY / 2)
    bench.exporter.put(spans(1, 2))
    assert bench.waiting == 3
    await trio.sleep(EVERY)
    bench.exporter.put(spans(1, 3))
    await trio.sleep(EVERY * 2)
    assert collector.came == [(EVERY, [0, 1, 2]), (EVERY * 2.5, [3])]
    assert (bench.became(), bench.exports(), bench.waiting) == ({"sent": 4}, {"sent": 2}, 0)
    nursery.cancel_scope.cancel()


async def test_a_full_batch_waits_for_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    collector = Answering()
    bench = Bench(collector)
    nursery.start_soon(bench.exporter.run)
    bench.exporter.put(spans(BATCH * 2 + 1))
    await trio.sleep(0.1)
    assert [(at, len(came)) for at, came in collector.came] == [(0, BATCH), (0, BATCH)]
    await trio.sleep(EVERY)
    assert [(at, len(came)) for at, came in collector.came][2:] == [(EVERY, 1)]
    nursery.cancel_scope.cancel()


async def test_what_there_is_no_room_for_is_dropped_and_counted() -> None:
    bench = Bench(Answering(), capacity=3)
    bench.exporter.put(spans(5))
    assert (bench.became(), bench.waiting) == ({"dropped": 2}, 3)
    bench = Bench(Answering(), most_bytes=10)
    bench.exporter.put([b"1234567", b"12345", b"123"])
    assert (bench.became(), bench.waiting) == ({"dropped": 1}, 2)


async def test_room_is_made_by_sending(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    bench = Bench(Answering(), most_bytes=10)
    nursery.start_soon(bench.exporter.run)
    for _ in range(3):
        bench.exporter.put([b"1234567890"])
        await trio.sleep(EVERY + 1)
    assert bench.became() == {"sent": 3}
    nursery.cancel_scope.cancel()


async def test_a_batch_is_tried_again_and_comes_before_what_is_newer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    collector = Answering(NotSent("connection refused"), Reply(503, b"", 20), Reply(200))
    bench = Bench(collector)
    nursery.start_soon(bench.exporter.run)
    bench.exporter.put(spans(1))
    await trio.sleep(EVERY + 0.1)
    bench.exporter.put(spans(1, 1))
    await trio.sleep(60)
    assert [came for _, came in collector.came] == [[0], [0], [0], [1]]
    first, second, third, _ = (at for at, _ in collector.came)
    assert first == EVERY
    assert 0.5 <= second - first <= 1
    assert third - second == 20
    assert (bench.became(), bench.exports()) == ({"sent": 2}, {"again": 2, "sent": 2})
    (failed,) = bench.heard.named("traces_not_sent")
    assert (failed["error"], failed["log_level"]) == ("connection refused", "warning")
    (well,) = bench.heard.named("traces_sent_again")
    assert well["after_failing_for"] == pytest.approx(third - first, abs=0.1)
    nursery.cancel_scope.cancel()


async def test_a_collector_that_is_never_there_costs_spans_and_not_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    collector = Answering(*[NotSent("connection refused")] * 1000)
    bench = Bench(collector, capacity=10)
    nursery.start_soon(bench.exporter.run)
    for minute in range(10):
        bench.exporter.put(spans(20, minute * 20))
        await trio.sleep(60)
    became = bench.became()
    assert sum(became.values()) + bench.waiting >= 190  # but for the batch that is being tried
    assert bench.waiting <= 10
    assert became["dropped"] > 50
    assert became["lost"] > 50
    assert 5 <= len(bench.heard.named("traces_not_sent")) <= 10  # once a minute
    nursery.cancel_scope.cancel()


async def test_what_a_collector_does_not_want_is_not_sent_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    partial = b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}'
    collector = Answering(Reply(400), Reply(200, partial))
    bench = Bench(collector)
    nursery.start_soon(bench.exporter.run)
    for first in (0, 3):
        bench.exporter.put(spans(3, first))
        await trio.sleep(EVERY + 1)
    assert len(collector.came) == 2
    assert (bench.became(), bench.exports()) == ({"rejected": 5, "sent": 1}, {"refused": 1, "sent": 1})
    nursery.cancel_scope.cancel()


async def test_what_is_left_at_the_end_is_sent(autojump_clock: MockClock) -> None:
    collector = Answering()
    bench = Bench(collector)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.exporter.run)
        bench.exporter.put(spans(BATCH + 2))
        await trio.sleep(EVERY / 2)
        bench.exporter.put(spans(2))
        nursery.cancel_scope.cancel()
    assert bench.became() == {"sent": BATCH + 4}


async def test_what_was_to_be_tried_again_has_a_last_try(autojump_clock: MockClock) -> None:
    collector = Answering(NotSent("connection refused"))
    bench = Bench(collector)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.exporter.run)
        bench.exporter.put(spans(3))
        await trio.sleep(EVERY + 0.1)
        bench.exporter.put(spans(1, 3))
        nursery.cancel_scope.cancel()
    assert [came for _, came in collector.came] == [[0, 1, 2], [0, 1, 2], [3]]
    assert bench.became() == {"sent": 4}


async def test_the_end_waits_for_nobody_for_long(autojump_clock: MockClock) -> None:
    collector = Answering()
    bench = Bench(collector)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.exporter.run)
        bench.exporter.put(spans(1))
        await trio.testing.wait_all_tasks_blocked()
        collector.silent = True
        nursery.cancel_scope.cancel()
    assert trio.current_time() <= 1.1
    assert bench.became() == {"lost": 1}
