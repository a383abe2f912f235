"""What an exchange makes of the trace it belongs to: its upstream is told of our span, where there is one."""

from __future__ import annotations

import re

import pytest

from meshproxy.http.trace_context import Sampling
from tests.http.screenplay import Play

ALL, NONE = Sampling.of(1.0), Sampling.of(0.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
TRACE_ID, SPAN_ID = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
SAMPLED = b"traceparent: 00-%b-%b-01\r\n" % (TRACE_ID, SPAN_ID)


def get(*fields: bytes, path: bytes = b"/a") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (path, b"".join(fields))


def told(play: Play) -> bytes:
    """The only traceparent the upstream was told."""
    (found,) = re.findall(rb"\r\ntraceparent: ([^\r]*)", play.up)
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize("sampling", [None, NONE, ALL])
@pytest.mark.parametrize("flags", [b"00", b"02"])
def test_what_is_not_sampled_passes_as_it_came(sampling: Sampling | None, flags: bytes) -> None:
    came = b"00-%b-%b-%b" % (TRACE_ID, SPAN_ID, flags)
    play = Play(sampling=sampling).says(get(b"traceparent: %b\r\n" % came, b"tracestate: a=1\r\n")).gets()
    assert told(play) == came
    assert b"\r\ntracestate: a=1\r\n" in play.up
    assert play.hears(OK).told[0].trace is None


def test_without_tracing_what_is_sampled_passes_as_it_came() -> None:
    play = Play().says(get(SAMPLED)).gets()
    assert told(play) == SAMPLED[13:-2]
    assert play.hears(OK).told[0].trace is None


@pytest.mark.parametrize("sampling", [NONE, ALL])
def test_what_is_sampled_has_our_span_in_between(sampling: Sampling) -> None:
    play = Play(sampling=sampling).says(get(SAMPLED, b"tracestate: a=1\r\n")).gets()
    (exchange,) = play.hears(OK).told
    trace = exchange.trace
    assert trace is not None
    assert told(play) == b"00-%b-%b-01" % (TRACE_ID, trace.attempt_id)
    assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE_ID, SPAN_ID, b"a=1")
    assert b"\r\ntracestate: a=1\r\n" in play.up
    assert exchange.trace_id == TRACE_ID
    assert len({SPAN_ID, trace.span_id, trace.attempt_id}) == 3


def test_each_request_of_a_connection_has_spans_of_its_own() -> None:
    play = Play(sampling=ALL)
    seen = set()
    for fields in ((), (SAMPLED,), (), (SAMPLED,), ()):
        play.says(get(*fields)).gets().hears(OK)
        trace = play.told[-1].trace
        assert trace is not None
        assert told(play) == trace.traceparent
        seen |= {trace.span_id, trace.attempt_id}
    assert len(seen) == 10


def test_a_share_of_what_begins_here_is_sampled() -> None:
    play = Play(sampling=Sampling.of(0.25))
    for _ in range(400):
        play.says(get()).gets().hears(OK)
        sampled = play.told[-1].trace is not None
        assert told(play).endswith(b"-01" if sampled else b"-00")
    assert 60 < sum(exchange.trace is not None for exchange in play.told) < 140


def test_a_denied_request_has_a_span_too() -> None:
    (exchange,) = Play(sampling=ALL).says(get(SAMPLED, path=b"/no")).told
    assert exchange.trace is not None
    assert exchange.trace.parent_id == SPAN_ID


def test_what_is_sent_again_is_told_another_span() -> None:
    play = Play(sampling=ALL).says(get(SAMPLED)).gets(reused=True)
    first = told(play)
    play.relay.upstream_lost("reset", 1.0)
    play.collected().gets().hears(OK)
    trace = play.told[0].trace
    assert trace is not None
    assert told(play) == trace.traceparent != first
    (failed,) = trace.failed
    assert (failed.span_id, failed.ended) == (first[36:52], 1.0)
    assert play.told[0].resent
