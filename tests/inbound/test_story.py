"""The access line of a request: every field tells what its name says."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.errors import Failure
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.exchange import Decided, Exchange
from meshproxy.http.head import RequestHead
from meshproxy.http.trace_context import Sampling, Trace
from meshproxy.inbound.ledger import Ledger
from meshproxy.inbound.story import Story
from meshproxy.inbound.visit import Visit
from meshproxy.telemetry.access import RequestLine, make_access_log
from meshproxy.telemetry.events import LogStyle
from meshproxy.telemetry.flows import Edge, Flow
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.telemetry.wanted import AccessLines, Wanted
from meshproxy.tracing.tracer import Tracer
from meshproxy.upstream.attempt import FailedAttempt, Phase
from meshproxy.upstream.pool import UpstreamConnection
from tests.hearing import listening_log
from tests.http.screenplay import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshproxy.telemetry.access import AccessLine
    from meshproxy.telemetry.writer import LogWriter
    from meshproxy.tracing.exporter import Exporter
    from meshproxy.wire.channel import Channel


def a_head(target: bytes = b"/" + b"p" * 2000 + b"?secret", method: bytes = b"GET") -> RequestHead:
    reader = RequestReader(LIMITS)
    reader.feed(b"%b %b HTTP/1.1\r\nHost: h\r\n\r\n" % (method, target))
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


class Batch:
    """An engine's, that ends when it is told to; `afterwards` is itself."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def ends(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Told:
    def __init__(self) -> None:
        self.lines: list[AccessLine] = []
        self.metrics = Metrics()
        self.recorder = Recorder(self.metrics, listening_log()[0], self.lines.append, trio.current_time)
        self.visit = Visit("api", "inbound", "10.0.0.9:1", id="id-1", caller="spiffe://td/c")
        self.ledger = Ledger("api", self.recorder, Batch())
        self.story = Story(self.visit, self.ledger)

    def tell(self, exchange: Exchange, upstream: UpstreamConnection | None) -> dict[str, object]:
        self.story.finished(exchange, upstream)
        line = self.lines.pop()
        assert isinstance(line, RequestLine)
        return msgspec.structs.asdict(line)


@pytest.fixture
async def told() -> Told:
    return Told()


def upstream(target: str = "10.0.0.7:80", identity: str = "spiffe://td/far") -> UpstreamConnection:
    return UpstreamConnection(cast("Channel", None), ResponseReader(LIMITS), target, identity=identity)


async def test_every_field_of_a_line_tells_what_its_name_says(told: Told) -> None:
    exchange = Exchange(
        started=10.0,
        request_id=b"request-1",
        trace_id=b"trace-1",
        head=a_head(),
        decided=Decided("spiffe://td/c", "allow", "rule-1", "granted", "enforce", "api.allow.toml@3"),
        status=503,
        failure=Failure.LIMIT,
        detail="too much",
        upstream_asked=10.25,
        answered=10.5,
        ended=11.0000004,
        bytes_in=3,
        bytes_out=5,
        resent=True,
    )
    line = told.tell(exchange, upstream())
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "listener": "api",
        "direction": "inbound",
        "id": "id-1",
        "request_id": "request-1",
        "peer": "10.0.0.9:1",
        "method": "GET",
        "path": "/" + "p" * 1023,
        "status": 503,
        "caller": "spiffe://td/c",
        "decision": "allow",
        "rule": "rule-1",
        "reason": "granted",
        "mode": "enforce",
        "policy": "api.allow.toml@3",
        "upstream": "10.0.0.7:80",
        "upstream_id": "spiffe://td/far",
        "bytes_in": 3,
        "bytes_out": 5,
        "duration_ms": 1000.0,
        "answer_ms": 250.0,
        "trace_id": "trace-1",
        "span_id": "",
        "failure": "limit",
        "flag": "UO",
        "detail": "too much",
        "resent": True,
        "end": "",
    }
    assert told.metrics.requests.labels("api", "5xx", "limit").value == 1


@pytest.mark.parametrize(
    ("status", "failure", "counted"),
    [
        (200, None, (1, 0, 0)),
        (404, None, (1, 0, 0)),
        (500, None, (1, 1, 0)),
        (503, Failure.LIMIT, (1, 1, 0)),
        (200, Failure.RESPONSE_TRUNCATED, (1, 1, 0)),
        (0, Failure.CLIENT_GONE, (1, 0, 0)),
        (400, Failure.BAD_REQUEST, (1, 0, 0)),
        (403, Failure.DENIED, (0, 0, 1)),
    ],
)
async def test_what_counts_as_an_error_and_what_as_a_refusal(
    told: Told, status: int, failure: Failure | None, counted: tuple[int, int, int]
) -> None:
    told.visit.flow = told.recorder.flows.of(Edge("destination", "/c", "/api", "api", "http"))
    story = Story(told.visit, told.ledger)
    story.finished(Exchange(10.0, status=status, failure=failure, ended=10.1), None)
    point = told.visit.flow.take()
    assert point is not None
    assert (point.requests, point.errors, point.denied) == counted
    assert sum(point.histogram) == point.requests


async def test_what_was_no_request_has_a_line_of_little(told: Told) -> None:
    """The upstream beside it is the one of the request before."""
    line = told.tell(Exchange(10.0, request_id=b"r", status=400, answered=10.1, ended=10.1234567), upstream())
    kept = {name: value for name, value in line.items() if value}
    assert set(kept) == {"ts", "listener", "direction", "id", "request_id", "peer", "caller", "status", "duration_ms"}
    assert kept["duration_ms"] == 123.457


class Paper:
    """All that an access log asks of a writer."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        self.lines.append(line)

    put_alone = put

    def put_all_alone(self, lines: Iterable[bytes]) -> None:
        self.lines += lines


_DECISIONS = (
    None,
    Decided("spiffe://td/c", "allow", "rule-1", "granted", "enforce", "api.allow.toml@3"),
    Decided("spiffe://td/c", "would_deny", "", "no_rule", "audit", 'a "b" \\ ,"method":"x" é.toml@3'),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "started": st.just(1.0),
                "request_id": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).map(
                    str.encode
                ),
                "trace_id": st.just(b"0af7651916cd43dd8448eb211c80319c"),
                "head": st.sampled_from(
                    [None, a_head(b"/a/b?c"), a_head(b"/'a", b"PATCH"), a_head(b"/" + b"p" * 2000)]
                ),
                "decided": st.sampled_from(_DECISIONS),
                "status": st.integers(200, 599),
                "failure": st.sampled_from([None, None, None, Failure.LIMIT]),
                "upstream_asked": st.sampled_from([0.0, 1.5]),
                "answered": st.floats(1.6, 1e6),
                "ended": st.floats(1.6, 1e6),
                "bytes_in": st.sampled_from([0, 0, 7]),
                "bytes_out": st.integers(0, 1 << 40),
                "resent": st.booleans(),
            }
        ).flatmap(
            lambda told: st.tuples(
                st.just(Exchange(**cast("Any", told))),
                st.sampled_from(["10.0.0.7:80", "[::1]:1", None]),
                st.booleans(),
            )
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["", "spiffe://td/far", "spiffe://td/100%b"]),
)
def test_an_ordinary_line_is_written_as_any_other(told: list[tuple[Exchange, str | None, bool]], identity: str) -> None:
    """However the requests fall into batches: each is told once, in order, and counted."""
    paper, metrics = Paper(), Metrics()
    log = make_access_log(cast("LogWriter", paper), LogStyle.JSON)
    visit = Visit("api", "inbound", '10.0.0.9:1 "é', id="id-1", caller="spiffe://td/c", started=0.0)
    recorder = Recorder(metrics, listening_log()[0], log, lambda: 0.0)
    flow = visit.flow = recorder.flows.of(Edge("destination", "/c", "/api", "api", "http"))
    batch = Batch()
    story = Story(visit, Ledger("api", recorder, batch))
    with pytest.MonkeyPatch.context() as patch:
        for room in ("story", "ledger"):
            patch.setattr(f"meshproxy.inbound.{room}.present_time", lambda: "2026-11-22T10:00:00.000Z")
        expected = []
        for exchange, target, is_last_of_batch in told:
            connection = None if target is None else upstream(target, identity)
            if connection is None or exchange.head is None or exchange.failure or not exchange.upstream_asked:
                story.finished(exchange, connection)
            else:
                story.answered(exchange, connection)
            expected.append(msgspec.json.encode(story.line(exchange, connection)))
            if is_last_of_batch:
                batch.ends()
        batch.ends()
    assert len(paper.lines) == len(expected)
    for line, meant_line in zip(paper.lines, expected, strict=True):
        assert list(msgspec.json.decode(line).items()) == list(msgspec.json.decode(meant_line).items())
        assert line.index(b"\n") == len(line) - 1
    assert metrics.bytes.labels("api", "out").value == sum(exchange.bytes_out for exchange, *_ in told)
    assert metrics.bytes.labels("api", "in").value == sum(exchange.bytes_in for exchange, *_ in told)
    assert sum(number.value for _, number in metrics.requests.numbers()) == len(told)
    meant, point = Flow(flow.edge), flow.take()
    for exchange, *_ in told:
        failed = exchange.status >= 500 or exchange.failure is Failure.LIMIT
        lasted = exchange.ended - exchange.started
        meant.over(lasted, failed=failed, bytes_in=exchange.bytes_in, bytes_out=exchange.bytes_out)
    told_of = meant.take()
    assert point is not None
    assert told_of is not None
    assert abs(point.micros - told_of.micros) <= len(told)  # each rounded, or all together
    assert msgspec.structs.replace(point, micros=0) == msgspec.structs.replace(told_of, micros=0)
    assert (story.requests, story.bytes_out) == (len(told), sum(exchange.bytes_out for exchange, *_ in told))
    assert story.bytes_in == sum(exchange.bytes_in for exchange, *_ in told)


async def test_those_of_a_batch_are_told_at_its_end_each_for_its_own_connection() -> None:
    paper, metrics, batch = Paper(), Metrics(), Batch()
    log = make_access_log(cast("LogWriter", paper), LogStyle.JSON)
    ledger = Ledger("api", Recorder(metrics, listening_log()[0], log, lambda: 0.0), batch)
    visits = [Visit("api", "inbound", f"10.0.0.9:{number}", id=f"id-{number}", started=0.0) for number in range(3)]
    stories = [Story(visit, ledger) for visit in visits]
    for _ in range(3):
        for story in stories:
            story.answered(an_exchange(), upstream())
    assert paper.lines == []
    assert len(batch.calls) == 1
    batch.ends()
    assert [msgspec.json.decode(line)["id"] for line in paper.lines] == ["id-0", "id-1", "id-2"] * 3
    peers = [f"10.0.0.9:{number}" for number in range(3)]
    assert [msgspec.json.decode(line)["peer"] for line in paper.lines] == peers * 3
    assert [story.requests for story in stories] == [3, 3, 3]
    assert metrics.requests.labels("api", "2xx", "").value == 9
    stories[0].answered(an_exchange(), upstream())
    assert len(batch.calls) == 1


async def test_who_is_told_aloud_does_not_overtake_who_waits_for_the_end_of_the_batch() -> None:
    paper, batch = Paper(), Batch()
    log = make_access_log(cast("LogWriter", paper), LogStyle.JSON)
    ledger = Ledger("api", Recorder(Metrics(), listening_log()[0], log, lambda: 0.0), batch)
    story = Story(Visit("api", "inbound", "10.0.0.9:1", started=0.0), ledger)
    for number in range(3):
        story.answered(an_exchange(status=200 + number), upstream())
    story.finished(an_exchange(status=503), None)
    batch.ends()
    assert [msgspec.json.decode(line)["status"] for line in paper.lines] == [200, 201, 202, 503]


async def test_a_fault_in_telling_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log, heard = listening_log()
    batch = Batch()
    ledger = Ledger("api", Recorder(Metrics(), log, lambda _line: None, lambda: 0.0), batch)
    story = Story(Visit("api", "inbound", "10.0.0.9:1", started=0.0), ledger)
    monkeypatch.setattr(Story, "line", lambda *_: 1 / 0)
    story.answered(an_exchange(), upstream())
    batch.ends()
    assert heard.names == ["internal_error"]
    monkeypatch.undo()
    story.answered(an_exchange(), upstream())
    batch.ends()
    assert story.requests == 1


class Exported:
    """An exporter that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def put(self, spans: Iterable[bytes]) -> None:
        self.spans += map(msgspec.json.decode, spans)


def at_once(call: Callable[[], None]) -> None:
    call()


def story_as(wanted: Wanted, *, tracer: Tracer | None = None) -> tuple[Story, list[AccessLine], Metrics]:
    lines: list[AccessLine] = []
    metrics = Metrics()
    recorder = Recorder(metrics, listening_log()[0], lines.append, lambda: 0.0, wanted)
    visit = Visit("api", "inbound", "10.0.0.9:1", id="id-1", caller="spiffe://td/c", started=0.0)
    return Story(visit, Ledger("api", recorder, at_once, tracer)), lines, metrics


def an_exchange(**more: object) -> Exchange:
    exchange = Exchange(1.0, b"r", b"a" * 32, a_head(b"/a"), _DECISIONS[0], status=200, bytes_out=5)
    exchange.upstream_asked, exchange.answered, exchange.ended = 1.1, 1.2, 1.3
    for name, value in more.items():
        setattr(exchange, name, value)
    return exchange


_WOULD_DENY = Decided("spiffe://td/c", "would_deny", "", "path", "audit", "f@1")


@pytest.mark.parametrize("lines", list(AccessLines))
@pytest.mark.parametrize(
    ("told", "has_failed"),
    [
        ({}, False),
        ({"status": 404}, False),
        ({"status": 500}, True),
        ({"decided": _WOULD_DENY}, True),
        ({"decided": None}, False),
        ({"status": 403, "failure": Failure.DENIED}, True),
    ],
)
async def test_who_wants_failures_is_told_failures(
    lines: AccessLines,
    told: dict[str, object],
    has_failed: bool,  # noqa: FBT001 - a table's column
) -> None:
    story, written, metrics = story_as(Wanted(lines))
    for _ in range(3):
        exchange = an_exchange(**told)
        if exchange.failure is None:
            story.answered(exchange, upstream())
        else:
            story.finished(exchange, None)
    expected = {AccessLines.ALL: 3, AccessLines.FAILURES: 3 * has_failed, AccessLines.OFF: 0}
    assert len(written) == expected[lines]
    assert sum(number.value for _, number in metrics.requests.numbers()) == 3  # counted in any case
    assert [sum(buckets.counts) for _, buckets in metrics.request_seconds.numbers()] == [3]
    assert metrics.bytes.labels("api", "out").value == 15


@pytest.mark.parametrize("lines", list(AccessLines))
async def test_requests_need_not_be_counted(lines: AccessLines) -> None:
    story, _, metrics = story_as(Wanted(lines, request_metrics=False))
    for failure in (None, None, Failure.LIMIT):
        exchange = an_exchange(failure=failure, bytes_in=3)
        story.finished(exchange, None) if failure else story.answered(exchange, upstream())
    families = (metrics.requests, metrics.request_seconds, metrics.bytes, metrics.response_flags)
    assert [list(family.numbers()) for family in families] == [[]] * 4


@pytest.mark.parametrize("lines", list(AccessLines))
async def test_a_sampled_request_is_traced_whatever_is_logged(lines: AccessLines) -> None:
    exported = Exported()
    tracer = Tracer(Sampling.of(1.0), cast("Exporter", exported), lambda: 1.3)
    story, written, metrics = story_as(Wanted(lines), tracer=tracer)
    for number in range(3):
        trace = Trace(b"a" * 32, b"", b"%016d" % number, b"c" * 16, b"", Random(1))
        story.answered(an_exchange(trace=trace), upstream())
        story.answered(an_exchange(), upstream())
    servers = [span["spanId"] for span in exported.spans if span["kind"] == 2]
    assert servers == [f"{number:016d}" for number in range(3)]
    assert len(exported.spans) == 6
    assert [span.span_id for span in written if isinstance(span, RequestLine) and span.span_id] == (
        servers if lines is AccessLines.ALL else []
    )
    ((_, buckets),) = metrics.request_seconds.numbers()
    assert [exemplar.labels for exemplar in buckets.exemplars.values()] == [{"trace_id": "a" * 32}]


async def test_attempts_that_failed_are_told_with_their_times(told: Told) -> None:
    exchange = an_exchange(trace=Trace(b"a" * 32, b"", b"b" * 16, b"c" * 16, b"", Random(1), attempt_began=1.0))
    told.story.upstream_failed(FailedAttempt("10.0.0.6:80", Phase.CONNECT, "refused"), exchange)
    assert exchange.trace is not None
    (failed,) = exchange.trace.failed
    assert (failed.target, failed.why, failed.detail, failed.began) == ("10.0.0.6:80", "connect", "refused", 1.0)
    assert exchange.trace.attempt_began == failed.ended > failed.began
    told.story.waited(0.004)
    ((_, waits),) = told.metrics.upstream_wait.numbers()
    assert waits.total == 0.004
