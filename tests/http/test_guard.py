from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http.guard import find_head_end, judge_head, judge_start_line
from meshproxy.http.head import BadMessage, HeadLimits

_LIMITS = HeadLimits()
_SOUND = b"GET /x HTTP/1.1\r\nHost: a\r\nX: b\tc \xff\r\n\r\n"


def _refusal(raw: bytes, limits: HeadLimits = _LIMITS) -> int | None:
    try:
        judge_head(raw, limits)
    except BadMessage as bad:
        return bad.status
    return None


@pytest.mark.parametrize("byte", range(256))
def test_which_bytes_may_stand_in_a_value(byte: int) -> None:
    """RFC 9110 section 5.5: field-vchar, SP and HTAB."""
    raw = b"GET /x HTTP/1.1\r\nX: a" + bytes([byte]) + b"b\r\n\r\n"
    allowed = byte == 0x09 or 0x20 <= byte <= 0x7E or byte >= 0x80
    assert _refusal(raw) == (None if allowed else 400)


@pytest.mark.parametrize("byte", range(256))
def test_which_bytes_may_stand_in_a_name(byte: int) -> None:
    """RFC 9110 section 5.6.2: tchar. A colon ends the name."""
    raw = b"GET /x HTTP/1.1\r\nX" + bytes([byte]) + b"y: b\r\n\r\n"
    token = chr(byte).isalnum() and byte < 0x80
    assert _refusal(raw) == (None if token or bytes([byte]) in b"!#$%&'*+-.^_`|~:" else 400)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b" X: a", 400),  # RFC 9112 section 5.2: obs-fold
        (b"\tX: a", 400),
        (b"X : a", 400),  # RFC 9112 section 5.1
        (b"X\t: a", 400),
        (b": a", 400),
        (b"X", 400),
        (b"", 400),  # an empty line in the middle is the end; what follows it is not of this head
        (b"Host: b", 400),  # RFC 9112 section 3.2: a second one
        (b"hOST: a", 400),
        (b"Content-Length: 1\r\nContent-Length: 1", 400),
        (b"Content-Length: 1,1", 400),
        (b"Content-Length: ", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-encoding: chunked", 400),
        (b"X:", None),
        (b"X:a:b", None),
        (b"X: a\r\nX: a", None),
        (b"Content-Length: \t1 ", None),
    ],
)
def test_field_lines(line: bytes, status: int | None) -> None:
    assert _refusal(b"GET /x HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n") == status


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (HeadLimits(head_bytes=len(_SOUND), fields=2, target=2), None),
        (HeadLimits(head_bytes=len(_SOUND) - 1, fields=2, target=2), 431),
        (HeadLimits(head_bytes=len(_SOUND), fields=1, target=2), 431),
        (HeadLimits(head_bytes=len(_SOUND), fields=2, target=1), 414),
    ],
)
def test_limits_are_exact(limits: HeadLimits, status: int | None) -> None:
    assert _refusal(_SOUND, limits) == status


def test_the_limit_on_targets_is_not_for_reasons() -> None:
    judge_head(b"HTTP/1.1 200 " + b"a" * 100 + b"\r\n\r\n", HeadLimits(target=1))


@pytest.mark.parametrize("raw", [b"", b"GET /x HTTP/1.1\r\n", _SOUND[:-2], _SOUND + b"\r\n"])
def test_a_head_ends_with_its_blank_line(raw: bytes) -> None:
    assert _refusal(raw) == 400


def _end(raw: bytes, step: int, limits: HeadLimits = _LIMITS) -> tuple[int, int]:
    """Where the end was found (or the status of the refusal), and how many bytes had been fed."""
    buffer, scanned, started = bytearray(), 0, False
    for start in range(0, len(raw), step):
        buffer += raw[start : start + step]
        try:
            end = find_head_end(buffer, 0, scanned, limits)
            if end < 0 and not started:
                started = judge_start_line(buffer, 0, scanned)
        except BadMessage as bad:
            return -bad.status, len(buffer)
        if end >= 0:
            return end, len(buffer)
        scanned = len(buffer)
    return -1, len(buffer)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_the_end_is_found_at_any_portion(step: int) -> None:
    end, fed = _end(_SOUND + _SOUND, step)
    assert end == len(_SOUND)
    assert fed <= len(_SOUND) - 1 + step or step == 1000


@pytest.mark.parametrize(
    ("raw", "status", "seen"),
    [
        (b"GET /x HTTP/1.1\n", 400, 16),
        (b"GET /x HTTP/1.1\r\nX: a\n", 400, 22),
        (b"GET /x HTTP/1.1\r\nX: a\rb", 400, 23),
        (b"\x16\x03\x01", 400, 1),
        (b"GET /\x00", 400, 6),
        (b"PROXY TCP4 a b 1 2\r\n", 400, 20),
        (b"SSH-2.0-x\r\n", 400, 11),
        (b"GET /" + b"a" * 100, 414, 51),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100, 431, 51),
    ],
)
def test_what_can_never_become_a_head_is_refused_at_once(raw: bytes, status: int, seen: int) -> None:
    assert _end(raw, 1, HeadLimits(head_bytes=50)) == (-status, seen)


_name = st.text("abcXYZ-_09", min_size=1, max_size=8).map(str.encode)
_value = st.binary(max_size=12).map(lambda b: bytes(c for c in b if c >= 0x20 and c != 0x7F).strip(b" \t"))
_fields = st.lists(st.tuples(_name, _value), max_size=6).map(
    lambda fields: [f for f in fields if f[0].lower() not in {b"host", b"content-length", b"transfer-encoding"}]
)


@given(_fields, st.sampled_from([b"", b" ", b"\t "]))
def test_h11_reads_what_the_guard_lets_pass_as_it_stands(fields: list[tuple[bytes, bytes]], space: bytes) -> None:
    raw = b"GET /x HTTP/1.1\r\nHost: a\r\n"
    raw += b"".join(name + b":" + space + value + space + b"\r\n" for name, value in fields) + b"\r\n"
    judge_head(raw, _LIMITS)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert request.headers.raw_items() == [(b"Host", b"a"), *fields]


@given(st.lists(st.sampled_from([b"a", b":", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"X: y\r\n"]), max_size=12))
def test_a_naive_split_and_h11_agree_on_whatever_passes(pieces: list[bytes]) -> None:
    raw = b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"".join(pieces) + b"\r\n\r\n"
    try:
        judge_head(raw, _LIMITS)
    except BadMessage:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    naive = [line.partition(b":") for line in raw[:-4].split(b"\r\n")[1:]]
    assert request.headers.raw_items() == [(name, value.strip(b" \t")) for name, _, value in naive]
