from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshproxy.http.writing import Unwritable, chunk_start, fields_text, last_chunk, request_bytes, response_bytes

if TYPE_CHECKING:
    from meshproxy.http.head import Field

_HOST: Field = (b"Host", b"a")


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        (b"GET", b"/a b", _HOST),
        (b"GET", b"/\r\nX: y", _HOST),
        (b"G ET", b"/", _HOST),
        (b"GET", b"/", (b"X", b"a\r\nY: b")),
        (b"GET", b"/", (b"X", b"a\nb")),
        (b"GET", b"/", (b"X", b"a\rb")),
        (b"GET", b"/", (b"X", b"a\0b")),
        (b"GET", b"/", (b"X\r\nY", b"a")),
    ],
)
def test_the_writer_refuses_what_would_be_read_otherwise(method: bytes, target: bytes, field: Field) -> None:
    with pytest.raises(Unwritable):
        request_bytes(method, target, b"a", b"", [field])


def test_the_other_writers_refuse_too() -> None:
    with pytest.raises(Unwritable):
        response_bytes(200, b"OK\r\nX: y", b"", [])
    with pytest.raises(Unwritable):
        last_chunk([(b"X", b"\n")])
    with pytest.raises(Unwritable):
        chunk_start(0)
    with pytest.raises(Unwritable):
        fields_text([(b"X", b"\r\n")])


def test_how_things_are_written() -> None:
    assert request_bytes(b"GET", b"/", b"a", b"", []) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert response_bytes(204, b"", b"", []) == b"HTTP/1.1 204 \r\n\r\n"
    assert chunk_start(16) == b"10\r\n"
    assert fields_text([_HOST, (b"X", b"")]) == b"\r\nHost: a\r\nX: "
    carried = b"\r\nX: a\r\nY: b"
    assert request_bytes(b"GET", b"/", b"a", carried, [(b"Z", b"c")]) == (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\nY: b\r\nZ: c\r\n\r\n"
    )
    assert response_bytes(200, b"OK", carried, [(b"Z", b"c")]) == b"HTTP/1.1 200 OK\r\nX: a\r\nY: b\r\nZ: c\r\n\r\n"


@pytest.mark.parametrize("carried", [b"\r\nX: a\r\n", b"\r\nX: a\r\n\r\nGET / HTTP/1.1", b"\r\nX: a\n", b"\r\nX: \0"])
def test_a_carried_text_cannot_end_the_head(carried: bytes) -> None:
    with pytest.raises(Unwritable):
        request_bytes(b"GET", b"/", b"a", carried, [(b"Z", b"c")])
    with pytest.raises(Unwritable):
        response_bytes(200, b"OK", carried, [(b"Z", b"c")])
    assert last_chunk() == b"0\r\n\r\n"
