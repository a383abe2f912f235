from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http import writing
from meshproxy.http.codec import Piece, RequestReader, ResponseReader
from meshproxy.http.head import (
    CHUNKED,
    NO_BODY,
    BadMessage,
    Field,
    Framing,
    FramingKind,
    HeadLimits,
    RequestHead,
    ResponseHead,
    Version,
)
from tests.http.texts import chunk, fields_in

_LIMITS = HeadLimits()


def _events(reader: RequestReader | ResponseReader, raw: bytes, step: int) -> list[object]:
    """What the reader makes of `raw`; the pieces of a body are one, a refusal is the status that ends the list."""
    events: list[object] = []
    try:
        for start in range(0, len(raw), step):
            reader.feed(raw[start : start + step])
            while (event := reader.next()) is not None:
                if isinstance(event, Piece) and isinstance(before := events[-1], Piece):
                    events[-1] = Piece(before.payload + event.payload, event.last, event.trailers)
                else:
                    events.append(event)
    except BadMessage as bad:
        events.append(bad.status)
    return events


_names = st.sampled_from([b"X-A", b"x_b", b"Accept", b"!#$%&'*+-.^_`|~"])
_values = st.binary(max_size=9).map(lambda raw: bytes(c for c in raw if c >= 0x20 and c != 0x7F).strip(b" "))
_some_fields = st.lists(st.tuples(_names, _values), max_size=4)
_methods = st.sampled_from([b"GET", b"POST", b"X-Y!"])
_bodies = st.one_of(st.none(), st.binary(max_size=30), st.lists(st.binary(min_size=1, max_size=9)))


def _written(body: bytes | list[bytes] | None) -> tuple[list[Field], bytes, Framing, bytes]:
    """Framing fields, the body on the wire, the framing, and the body."""
    if body is None:
        return [], b"", NO_BODY, b""
    if isinstance(body, bytes):
        return [(b"Content-Length", b"%d" % len(body))], body, Framing(FramingKind.LENGTH, len(body)), body
    wire = b"".join(map(chunk, body)) + writing.last_chunk([(b"X-T", b"1")])
    return [(b"Transfer-Encoding", b"chunked")], wire, CHUNKED, b"".join(body)


@given(st.lists(st.tuples(_methods, _some_fields, _bodies), min_size=1, max_size=3), st.integers(1, 50))
def test_requests_that_are_written_are_read_back(
    messages: list[tuple[bytes, list[Field], bytes | list[bytes] | None]], step: int
) -> None:
    raw, expected = b"", []
    for method, fields, body in messages:
        framing_fields, wire, framing, content = _written(body)
        every = [*fields, *framing_fields]
        raw += writing.request_bytes(method, b"/a?b", b"a", b"", writing.fields_text(every), count=len(every)) + wire
        expected.append((method, fields, framing, content))
    events, found = _events(RequestReader(_LIMITS), raw, step), []
    for event in events:
        if isinstance(event, RequestHead):
            assert (event.target.path, event.target.query, event.version) == (b"/a", b"b", Version.HTTP_1_1)
            found.append((event.method, fields_in(event.fields.carried), event.fields.framing, b""))
        else:
            assert isinstance(event, Piece)
            assert event.last
            assert event.trailers == (((b"X-T", b"1"),) if found[-1][2] == CHUNKED else ())
            found[-1] = (*found[-1][:3], event.payload)
    assert found == expected
    assert len([event for event in events if isinstance(event, Piece)]) == sum(m[2] is not None for m in messages)


@given(st.integers(200, 599), _some_fields, _bodies, st.integers(1, 50))
def test_responses_that_are_written_are_read_back(
    status: int, fields: list[Field], body: bytes | list[bytes] | None, step: int
) -> None:
    framing_fields, wire, _, content = _written(body)
    if status in {204, 304}:
        framing_fields, wire, content = [], b"", b""
    reader = ResponseReader(_LIMITS)
    reader.expect(b"GET")
    every = [*fields, *framing_fields]
    raw = writing.response_bytes(status, b"So be it", b"", writing.fields_text(every), count=len(every)) + wire
    events = _events(reader, raw, step)
    head = events[0]
    assert isinstance(head, ResponseHead)
    assert (head.status, head.reason, fields_in(head.carried)) == (status, b"So be it", fields)
    assert b"".join(event.payload for event in events if isinstance(event, Piece)) == content


_PIECES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", b"\r\n", b"\n", b"\r", b"X: y\r\n"),
        *(b"Content-Length: 2\r\n", b"ab", b"Connection: close\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n", b"0", b"0\r\n\r\n"),
    ]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_portions_make_no_difference(raw: bytes, steps: list[int]) -> None:
    whole = _events(RequestReader(_LIMITS), raw, 1 << 20)
    for step in steps:
        assert _events(RequestReader(_LIMITS), raw, step) == whole


def test_a_refusal_stays() -> None:
    reader = RequestReader(_LIMITS)
    reader.feed(b"GET /\n")
    for _ in range(2):
        with pytest.raises(BadMessage):
            reader.next()
        reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_data_before_a_fault_is_given_out_first() -> None:
    reader = RequestReader(_LIMITS)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nX\r\n")
    assert isinstance(reader.next(), RequestHead)
    assert reader.next() == Piece(b"a")
    with pytest.raises(BadMessage):
        reader.next()


def test_where_a_reader_stands() -> None:
    reader = RequestReader(_LIMITS)
    assert (reader.next(), reader.buffered, reader.mid_message) == (None, 0, False)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\n")
    assert (reader.next(), reader.mid_message) == (None, True)
    reader.feed(b"Content-Length: 2\r\n\r\na")
    assert isinstance(reader.next(), RequestHead)
    assert reader.next() == Piece(b"a")
    assert (reader.next(), reader.buffered, reader.mid_message) == (None, 0, True)
    reader.feed(b"bGET")
    assert reader.next() == Piece(b"b", last=True)
    assert (reader.next(), reader.buffered, reader.mid_message) == (None, 3, True)
    assert "buffered=3" in repr(reader)


def test_what_follows_an_upgrade_is_handed_over() -> None:
    reader = RequestReader(_LIMITS)
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    head = reader.next()
    assert isinstance(head, RequestHead)
    assert head.fields.upgrade == b"websocket"
    assert (reader.take_rest(), reader.buffered) == (b"\x81\x00", 0)


def test_interim_responses_complete_nothing() -> None:
    reader = ResponseReader(_LIMITS)
    reader.expect(b"POST")
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    raw += b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    events = _events(reader, raw, 1)
    assert [event.status for event in events if isinstance(event, ResponseHead)] == [100, 103, 200]
    assert events[-1] == Piece(b"a", last=True)


def test_a_switch_leaves_its_bytes_alone() -> None:
    reader = ResponseReader(_LIMITS)
    reader.expect(b"GET")
    reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    head = reader.next()
    assert isinstance(head, ResponseHead)
    assert head.status == 101
    assert reader.take_rest() == b"\x81\x00"


def test_nothing_is_read_that_was_not_expected() -> None:
    reader = ResponseReader(_LIMITS)
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    reader.feed(raw)
    assert (reader.next(), reader.buffered) == (None, len(raw))
    reader.expect(b"GET")
    with pytest.raises(RuntimeError):
        reader.expect(b"GET")
    assert isinstance(reader.next(), ResponseHead)
    with pytest.raises(RuntimeError):
        reader.expect(b"GET")
    assert reader.next() == Piece(b"", last=True)
    reader.expect(b"GET")


def test_the_method_asked_decides_about_the_body() -> None:
    reader = ResponseReader(_LIMITS)
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    reader.expect(b"HEAD")
    reader.feed(raw + raw + b"a")
    assert isinstance(reader.next(), ResponseHead)
    assert reader.next() is None
    reader.expect(b"GET")
    assert isinstance(reader.next(), ResponseHead)
    assert reader.next() == Piece(b"a", last=True)


@pytest.mark.parametrize(
    ("raw", "cut"),
    [
        (b"", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\na", False),
        (b"HTTP", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", True),
    ],
)
def test_where_a_stream_may_end(raw: bytes, cut: bool) -> None:  # noqa: FBT001 - a table's column
    """RFC 9112 section 8."""
    reader = ResponseReader(_LIMITS)
    reader.expect(b"GET")
    events = _events(reader, raw, 7)
    if cut:
        with pytest.raises(BadMessage):
            reader.eof()
        return
    reader.eof()
    close_delimited = bool(events) and isinstance(events[0], ResponseHead) and b"Content-Length" not in raw
    final = close_delimited and b" 200 " in raw
    assert reader.next() == (Piece(b"", last=True) if final else None)
    assert not reader.mid_message


def test_a_body_of_a_gigabyte_stays_small() -> None:
    """In memory terms: what was given out is gone. 64 MiB prove it as well."""
    portion, count = b"a" * 65536, 1024
    for framing, wire in (
        (b"Content-Length: %d" % (len(portion) * count), portion),
        (b"Transfer-Encoding: chunked", chunk(portion)),
    ):
        reader = RequestReader(_LIMITS)
        reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        assert isinstance(reader.next(), RequestHead)
        tracemalloc.start()
        total = 0
        for _ in range(count):
            reader.feed(wire)
            while isinstance(event := reader.next(), Piece):
                total += len(event.payload)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == len(portion) * count
        assert peak < 1 << 20


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 50])
def test_a_byte_at_a_time_is_not_quadratic(head: bytes) -> None:
    def seconds(size: int) -> float:
        reader = RequestReader(HeadLimits(head_bytes=1 << 20, target=1 << 20))
        reader.feed(head)
        started = time.process_time()
        for _ in range(size):
            reader.feed(b"a")
            assert reader.next() is None
        return time.process_time() - started

    small = min(seconds(4_000) for _ in range(3))
    assert seconds(40_000) < 40 * small + 0.05
