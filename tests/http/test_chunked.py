from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http.chunked import ChunkedDecoder
from meshproxy.http.head import BadMessage, Field, HeadLimits
from meshproxy.http.writing import last_chunk
from tests.http.texts import chunk

_LIMITS = HeadLimits()


def _decode(raw: bytes, step: int = 1 << 20, limits: HeadLimits = _LIMITS) -> tuple[bytes, tuple[Field, ...], bytes]:
    """Body, trailers and what is left behind the end; raises BadMessage, or EOFError when the body is incomplete."""
    decoder, buffer = ChunkedDecoder(limits), bytearray()
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(raw), step):
        buffer += raw[start : start + step]
        del buffer[: decoder.take(buffer, 0, pieces)]
        if decoder.done:
            return b"".join(pieces), decoder.trailers, bytes(buffer) + raw[start + step :]
    raise EOFError


def _oracle(raw: bytes) -> tuple[bytes, bytes]:
    """Read it whole with the RFC's grammar (RFC 9112 section 7.1), extensions and trailers left out."""
    body = b""
    while True:
        line = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match(raw)
        if line is None:
            raise ValueError
        size, raw = int(line[1], 16), raw[line.end() :]
        if raw[size : size + 2] != b"\r\n":
            raise ValueError
        body, raw = body + raw[:size], raw[size + 2 :]
        if not size:
            return body, raw


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 9), st.binary(max_size=9))
def test_what_is_written_is_read_at_any_portion(pieces: list[bytes], step: int, behind: bytes) -> None:
    trailers = ((b"X-Sum", b"a b"), (b"Y", b""))
    raw = b"".join(map(chunk, pieces)) + last_chunk(trailers) + behind
    assert _decode(raw, step) == (b"".join(pieces), trailers, behind)


@given(
    st.lists(st.tuples(st.sampled_from([b"%x", b"%X", b"0%x"]), st.binary(min_size=1, max_size=17)), max_size=20),
    st.sampled_from(
        [b"", b"0\r\n\r\n", b"1\r\n", b"3\r\nab", b"2\r\n\r\n", b"1;a\r\na\r\n", b"1\r\na\n", b"g\r\na\r\n"]
    ),
    st.sampled_from([1, 2, 7, 50, 1 << 20]),
)
def test_runs_of_tiny_chunks_are_read_as_one_by_one(chunks: list[tuple[bytes, bytes]], then: bytes, step: int) -> None:
    raw = b"".join(size % len(data) + b"\r\n" + data + b"\r\n" for size, data in chunks)
    decoder, pieces = ChunkedDecoder(_LIMITS), list[bytes | memoryview]()
    with contextlib.suppress(BadMessage):
        rest = bytearray()
        for start in range(0, len(raw + then), step):
            rest += (raw + then)[start : start + step]
            del rest[: decoder.take(rest, 0, pieces)]
    said = b"".join(data for _, data in chunks) + {b"3\r\nab": b"ab", b"2\r\n\r\n": b"\r\n"}.get(then, b"")
    assert b"".join(pieces) == said + (b"a" if then in {b"1;a\r\na\r\n", b"1\r\na\n"} else b"")


@pytest.mark.parametrize(
    ("chunk", "allowed"),  # seconds for 40,000 of them: several times what they take, and a third of what they took
    [(b"1\r\na\r\n", 0.08), (b"02\r\nab\r\n", 0.2), (b"1;a\r\na\r\n", 0.25)],
)
def test_hordes_of_tiny_chunks_do_not_hold_the_loop(chunk: bytes, allowed: float) -> None:

    def seconds(raw: bytes) -> float:
        started = time.process_time()
        _decode(raw + b"0\r\n\r\n")
        return time.process_time() - started

    assert min(seconds(chunk * 40_000) for _ in range(3)) < allowed


@given(st.lists(st.sampled_from([b"0", b"1", b"2", b"a", b"\r\n", b"\r", b"\n", b"2\r\nab\r\n", b"0\r\n\r\n"])))
def test_a_simple_oracle_agrees(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    try:
        body, _, behind = _decode(raw)
    except (BadMessage, EOFError):
        with pytest.raises(ValueError):  # noqa: PT011 - the oracle has nothing to say but no
            _oracle(raw)
    else:
        assert _oracle(raw) == (body, behind)


@given(st.binary(max_size=30), st.integers(1, 5))
def test_portions_make_no_difference(tail: bytes, step: int) -> None:
    raw = b"3\r\nabc\r\n" + tail

    def outcome(step: int) -> object:
        try:
            return _decode(raw, step)
        except BadMessage as bad:
            return bad.status
        except EOFError:
            return "more"

    assert outcome(step) == outcome(1 << 20)


@pytest.mark.parametrize(
    "line",
    [
        b"1",
        b"01",
        b"0000000000000001",
        b"1;a",
        b"1;a=b",
        b'1;a="b\\"c;\xff"',
        b"1 ; a = b ;c",
        b"1\t;a",
        b"1;" + b"a" * 252,
    ],
)
def test_size_lines(line: bytes) -> None:
    assert _decode(line + b"\r\nx\r\n0\r\n\r\n") == (b"x", (), b"")


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_a_size_line_has_a_limit_however_it_comes(step: int) -> None:
    with pytest.raises(BadMessage):
        _decode(b"1;" + b"a" * 300 + b"\r\nx\r\n0\r\n\r\n", step)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"1\n", 2),
        (b"1\rx", 3),
        (b"1;\x00", 3),
        (b"1;a\nb", 4),
        (b"1;" + b"a" * 254, 256),
        (b"8000000000000000\r\n", 18),
        (b"g\r\n", 3),
        (b"\r\n", 2),
        (b"1\r\nxy", 5),
        (b"1\r\nx\n", 5),
        (b"1\r\nx\ry", 6),
        (b"0\r\n\n", 4),
        (b"0\r\nX\ry", 6),
    ],
)
def test_faults_are_refused_at_the_byte_that_makes_them(line: bytes, seen: int) -> None:
    decoder, buffer = ChunkedDecoder(_LIMITS), bytearray()
    fed = 0
    with pytest.raises(BadMessage) as caught:  # noqa: PT012 - where it is raised is the question
        for byte in line:
            buffer.append(byte)
            fed += 1
            del buffer[: decoder.take(buffer, 0, [])]
    assert (fed, caught.value.status) == (seen, 400)


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        (b"X: a\r\n" * 2, None),
        (b"X: a\r\n" * 3, 431),
        (b"X: " + b"a" * 100 + b"\r\n", 431),
        (b"X : a\r\n", 400),
        (b" X: a\r\n", 400),
        (b"X: \x01\r\n", 400),
    ],
)
def test_trailers_are_judged_like_heads(trailers: bytes, status: int | None) -> None:
    limits = HeadLimits(head_bytes=50, fields=2)
    if status is None:
        assert _decode(b"0\r\n" + trailers + b"\r\n", 1, limits)[1] == ((b"X", b"a"),) * 2
        return
    with pytest.raises(BadMessage) as caught:
        _decode(b"0\r\n" + trailers + b"\r\n", 1, limits)
    assert caught.value.status == status


def test_a_byte_at_a_time_is_not_quadratic() -> None:
    """A long trailer section: ten times the bytes take about ten times as long, not a hundred times."""

    def seconds(size: int) -> float:
        raw = b"0\r\nX: " + b"a" * size
        started = time.process_time()
        with pytest.raises(EOFError):
            _decode(raw, 1, HeadLimits(head_bytes=1 << 20))
        return time.process_time() - started

    small = min(seconds(4_000) for _ in range(3))
    assert seconds(40_000) < 40 * small + 0.05
