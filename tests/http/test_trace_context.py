"""Traces are kept, begun, read from Zipkin's fields, and sampled as the caller was or as the share says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http.fields import read_traceparent
from meshproxy.http.head import B3
from meshproxy.http.parse import parse_request_head, read_request_head
from meshproxy.http.trace_context import (
    LAST_FLAG,
    SAMPLED,
    Sampling,
    ids_for,
    read_b3,
    read_state,
    trace_of,
)
from tests.http.screenplay import LIMITS

if TYPE_CHECKING:
    from meshproxy.http.head import RequestHead

TRACE_ID = b"0af7651916cd43dd8448eb211c80319c"
SPAN_ID = b"b7ad6b7169203331"
LATE, EARLY = b"0" * 18 + b"f" * 14, b"f" * 18 + b"0" * 14  # taken by nearly any share, and by none but all
HALF = Sampling.of(0.5)


def head(*fields: bytes) -> RequestHead:
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    read = read_request_head(raw, LIMITS)
    assert read == parse_request_head(raw, LIMITS)  # by both lanes
    return read


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_a_share_is_what_is_taken(share: float) -> None:
    rng, sampling = random.Random(7), Sampling.of(share)
    taken = sum(sampling.takes(rng.randbytes(16).hex().encode()) for _ in range(20_000))
    assert taken == pytest.approx(20_000 * share, rel=0.2)
    assert taken == 20_000 * share or 0 < share < 1


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_who_takes_less_takes_nothing_else(trace: bytes, one: float, other: float) -> None:
    """Whoever has to decide about a trace decides alike: its spans are all there or none."""
    trace_id, (less, more) = trace.hex().encode(), sorted((one, other))
    assert Sampling.of(more).takes(trace_id) or not Sampling.of(less).takes(trace_id)


@pytest.mark.parametrize("sampling", [None, Sampling.of(0.0), Sampling.of(1.0)])
@pytest.mark.parametrize("flags", [b"00", b"01", b"03", b"ff"])
def test_a_trace_that_came_is_kept_and_its_sampling_with_it(sampling: Sampling | None, flags: bytes) -> None:
    came = b"00-%b-%b-%b" % (TRACE_ID, SPAN_ID, flags)
    _, traceparent = ids_for(head(b"traceparent: " + came), random.Random(1), sampling)
    assert traceparent == came
    assert (traceparent[LAST_FLAG] in SAMPLED) is (int(flags, 16) & 1 == 1)


@pytest.mark.parametrize("field", [b"X: y", b"traceparent: nonsense", b"traceparent: 00-" + b"0" * 32])
def test_a_trace_begins_where_none_came(field: bytes) -> None:
    request, rng = head(field), random.Random(1)
    request_id, traceparent = ids_for(request, rng, Sampling.of(1.0))
    assert read_traceparent([(b"traceparent", traceparent)]) == traceparent
    assert traceparent.endswith(b"-01")
    assert len(request_id) == 32
    trace = trace_of(request, traceparent, rng)
    assert (trace.parent_id, trace.span_id) == (b"", traceparent[36:52])
    assert ids_for(request, rng, Sampling.of(0.0))[1].endswith(b"-00")
    assert ids_for(request, rng, None)[1].endswith(b"-00")


def test_a_request_id_that_came_is_kept() -> None:
    request_id, _ = ids_for(head(b"x-request-id: mine"), random.Random(1), None)
    assert request_id == b"mine"


def test_the_upstream_is_told_the_span_of_its_attempt() -> None:
    came = b"cc-%b-%b-ff-what-comes-later" % (TRACE_ID, SPAN_ID)
    request, rng = head(b"traceparent: " + came), random.Random(1)
    trace = trace_of(request, ids_for(request, rng, None)[1], rng)
    assert (trace.trace_id, trace.parent_id) == (TRACE_ID, SPAN_ID)
    assert len({SPAN_ID, trace.span_id, trace.attempt_id}) == 3
    # Version 00 is what we speak, and of the flags only what we know is passed on.
    assert trace.traceparent == b"00-%b-%b-01" % (TRACE_ID, trace.attempt_id)


def test_another_attempt_is_another_span() -> None:
    request, rng = head(b"traceparent: 00-%b-%b-01" % (TRACE_ID, SPAN_ID)), random.Random(1)
    trace = trace_of(request, b"00-%b-%b-01" % (TRACE_ID, SPAN_ID), rng)
    first = trace.attempt_id
    told = trace.try_again(b"GET / HTTP/1.1\r\ntraceparent: %b\r\n\r\n" % trace.traceparent, 1.0, 2.0, "why", "words")
    assert told == b"GET / HTTP/1.1\r\ntraceparent: %b\r\n\r\n" % trace.traceparent
    assert trace.attempt_id != first
    (failed,) = trace.failed
    assert (failed.span_id, failed.began, failed.ended, failed.why) == (first, 1.0, 2.0, "why")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([b"b3: %b-%b-1" % (TRACE_ID, SPAN_ID)], B3(TRACE_ID, SPAN_ID, True)),
        ([b"B3: %b-%b-d-%b" % (TRACE_ID, SPAN_ID, SPAN_ID)], B3(TRACE_ID, SPAN_ID, True)),
        ([b"b3: %b-%b-0" % (TRACE_ID, SPAN_ID)], B3(TRACE_ID, SPAN_ID, False)),
        ([b"b3: %b-%b" % (TRACE_ID, SPAN_ID)], B3(TRACE_ID, SPAN_ID, None)),
        ([b"b3: %b-%b-1" % (SPAN_ID, SPAN_ID)], B3(b"0" * 16 + SPAN_ID, SPAN_ID, True)),
        ([b"b3: 0"], B3(b"", b"", False)),
        ([b"b3: d"], B3(b"", b"", True)),
        ([b"b3: true"], None),
        ([b"b3: %b-%b-1" % (b"0" * 32, SPAN_ID)], None),
        ([b"b3: %b-%b-1" % (TRACE_ID, b"0" * 16)], None),
        ([b"b3: %b-%b-2" % (TRACE_ID, SPAN_ID)], None),
        ([b"b3: 0", b"b3: 1"], None),
        ([b"X-B3-TraceId: " + TRACE_ID, b"X-B3-SpanId: " + SPAN_ID], B3(TRACE_ID, SPAN_ID, None)),
        ([b"x-b3-traceid: " + TRACE_ID.upper(), b"x-b3-spanid: " + SPAN_ID], B3(TRACE_ID, SPAN_ID, None)),
        (
            [b"X-B3-TraceId: " + SPAN_ID, b"X-B3-SpanId: " + SPAN_ID, b"X-B3-Sampled: 1"],
            B3(b"0" * 16 + SPAN_ID, SPAN_ID, True),
        ),
        ([b"X-B3-TraceId: " + TRACE_ID, b"X-B3-SpanId: " + SPAN_ID, b"X-B3-Sampled: 0"], B3(TRACE_ID, SPAN_ID, False)),
        ([b"X-B3-TraceId: " + TRACE_ID, b"X-B3-SpanId: " + SPAN_ID, b"X-B3-Flags: 1"], B3(TRACE_ID, SPAN_ID, True)),
        ([b"X-B3-Sampled: true"], B3(b"", b"", True)),
        ([b"X-B3-TraceId: " + TRACE_ID], None),
        ([b"X-B3-TraceId: 1", b"X-B3-SpanId: " + SPAN_ID], None),
        ([b"b3: 0", b"X-B3-TraceId: " + TRACE_ID, b"X-B3-SpanId: " + SPAN_ID, b"X-B3-Sampled: 1"], B3(b"", b"", False)),
        ([b"ab3: 0", b"x-b3-parentspanid: " + SPAN_ID], None),
    ],
)
def test_what_zipkin_says(fields: list[bytes], said: B3 | None) -> None:
    read = head(*fields)
    assert read.fields.b3 == said
    assert read_b3(read.fields.carried) == said  # and it is passed on as it came
    assert all(field.lower() in read.fields.carried.lower() for field in fields)


@pytest.mark.parametrize(
    ("field", "sampling", "sampled"),
    [
        (b"b3: %b-%b-1" % (EARLY, SPAN_ID), None, True),
        (b"b3: %b-%b-0" % (LATE, SPAN_ID), Sampling.of(1.0), False),
        (b"b3: %b-%b" % (LATE, SPAN_ID), HALF, True),
        (b"b3: %b-%b" % (EARLY, SPAN_ID), HALF, False),
        (b"b3: %b-%b" % (LATE, SPAN_ID), None, False),
        (b"b3: 1", Sampling.of(0.0), True),
    ],
)
def test_a_trace_of_zipkin_goes_on(field: bytes, sampling: Sampling | None, sampled: bool) -> None:  # noqa: FBT001 - a table
    request, rng = head(field), random.Random(1)
    _, traceparent = ids_for(request, rng, sampling)
    assert traceparent.endswith(b"-01" if sampled else b"-00")
    if b"-" in field:
        assert traceparent[3:52] == field[4:53]
        assert trace_of(request, traceparent, rng).parent_id == SPAN_ID
    else:
        assert trace_of(request, traceparent, rng).parent_id == b""


def test_a_traceparent_goes_before_what_zipkin_says() -> None:
    came = b"00-%b-%b-00" % (TRACE_ID, SPAN_ID)
    request = head(b"traceparent: " + came, b"b3: %b-%b-1" % (LATE, SPAN_ID))
    assert ids_for(request, random.Random(1), Sampling.of(1.0))[1] == came


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ([b"tracestate: a=1"], b"a=1"),
        ([b"tracestate: a=1, b@c=2 ,,c=x y"], b"a=1,b@c=2,c=x y"),
        ([b"tracestate: a=1", b"TraceState: b=2"], b"a=1,b=2"),
        ([b"tracestate: A=1"], b""),
        ([b"tracestate: a=1=2"], b""),
        ([b"tracestate: " + b",".join(b"k%d=v" % n for n in range(32))], b",".join(b"k%d=v" % n for n in range(32))),
        ([b"tracestate: " + b",".join(b"k%d=v" % n for n in range(33))], b""),
        ([b"tracestate: " + b",".join(b"k%d=%b" % (n, b"v" * 250) for n in range(9))], b""),
    ],
)
def test_a_state_is_told_if_it_is_sound_and_passed_on_as_it_came(fields: list[bytes], state: bytes) -> None:
    read = head(b"traceparent: 00-%b-%b-01" % (TRACE_ID, SPAN_ID), *fields)
    assert read_state(read.fields.carried) == state
    assert all(field.split(b": ")[1] in read.fields.carried for field in fields)


def test_a_state_without_its_trace_is_dropped() -> None:
    assert head(b"tracestate: a=1").fields.carried == b""
