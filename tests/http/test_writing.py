from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshproxy.http.writing import (
    Unwritable,
    check_visible,
    chunk_start,
    fields_text,
    last_chunk,
    request_bytes,
    response_bytes,
)

if TYPE_CHECKING:
    from meshproxy.http.head import Field

_X: Field = (b"X", b"a")


@pytest.mark.parametrize(
    "field", [(b"X", b"a\r\nY: b"), (b"X", b"a\nb"), (b"X", b"a\rb"), (b"X", b"a\0b"), (b"X\r\nY", b"a")]
)
def test_fields_that_would_be_read_otherwise_are_refused(field: Field) -> None:
    for fields in ([field], [_X, field], [field, _X]):
        with pytest.raises(Unwritable):
            fields_text(fields)
        with pytest.raises(Unwritable):
            last_chunk(fields)


@pytest.mark.parametrize(
    ("method", "target", "host", "ours"),
    [
        (b"GET", b"/a b", b"h", b"\r\nX: a"),
        (b"GET", b"/\r\nX: y", b"h", b"\r\nX: a"),
        (b"G ET", b"/", b"h", b"\r\nX: a"),
        (b"GET", b"/", b"h\r\nX: y", b"\r\nX: a"),
        (b"GET", b"/", b"h\n", b"\r\nX: a"),
        (b"GET", b"/", b"h", b""),
        (b"GET", b"/", b"h", b"\r\nX: a\r\nY: b"),
        (b"GET", b"/", b"h", b"\r\nX: a\r"),
        (b"GET", b"/", b"h", b"\r\nX: a\n"),
        (b"GET", b"/", b"h", b"\r\nX: a\0"),
        (b"GET", b"/", b"h", b"\r\n"),
    ],
)
def test_requests_that_would_be_read_otherwise_are_refused(
    method: bytes, target: bytes, host: bytes, ours: bytes
) -> None:
    with pytest.raises(Unwritable):
        request_bytes(method, target, host, b"", ours, count=1)


@pytest.mark.parametrize("reason", [b"OK\r\nX: y", b"OK\n", b"\0", b"OK\r\n\r\n"])
def test_responses_that_would_be_read_otherwise_are_refused(reason: bytes) -> None:
    with pytest.raises(Unwritable):
        response_bytes(200, reason, b"", b"\r\nX: a", count=1)


@pytest.mark.parametrize("carried", [b"\r\nX: a\r\n", b"\r\nX: a\r\n\r\nGET / HTTP/1.1", b"\r\nX: a\n", b"\r\nX: \0"])
def test_a_carried_text_cannot_end_the_head(carried: bytes) -> None:
    for ours, count in ((b"\r\nZ: c", 1), (b"", 0)):
        with pytest.raises(Unwritable):
            request_bytes(b"GET", b"/", b"a", carried, ours, count=count)
        with pytest.raises(Unwritable):
            response_bytes(200, b"OK", carried, ours, count=count)


def test_an_empty_chunk_would_be_the_last() -> None:
    with pytest.raises(Unwritable):
        chunk_start(0)


def test_how_things_are_written() -> None:
    assert request_bytes(b"GET", b"/", b"a", b"", b"", count=0) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert response_bytes(204, b"", b"", b"", count=0) == b"HTTP/1.1 204 \r\n\r\n"
    assert fields_text([_X, (b"Y", b"")]) == b"\r\nX: a\r\nY: "
    assert fields_text([]) == b""
    carried = b"\r\nX: a\r\nY: b"
    ours = b"\r\nZ: c"
    assert request_bytes(b"GET", b"/", b"h", carried, ours, count=1) == (
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\nY: b\r\nZ: c\r\n\r\n"
    )
    assert response_bytes(200, b"OK", carried, ours, count=1) == b"HTTP/1.1 200 OK\r\nX: a\r\nY: b\r\nZ: c\r\n\r\n"
    assert chunk_start(16) == b"10\r\n"
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk([_X]) == b"0\r\nX: a\r\n\r\n"


@pytest.mark.parametrize("byte", [bytes([value]) for value in range(256)])
def test_what_goes_anew_into_a_head_has_no_meaning_there(byte: bytes) -> None:
    parts = b"GET/a" + byte + b"id"
    if byte <= b" " or byte == b"\x7f":
        with pytest.raises(Unwritable):
            check_visible(parts)
    else:
        check_visible(parts)
