from __future__ import annotations

import pytest

from meshproxy.http.head import (
    NO_BODY,
    BadMessage,
    Framing,
    FramingKind,
    HeadLimits,
    RequestFields,
    RequestHead,
    ResponseHead,
    Target,
    TargetForm,
    Version,
)
from meshproxy.http.parse import read_request_head, read_response_head

_LIMITS = HeadLimits()


def test_a_request_in_full() -> None:
    raw = b"POST /%61?b HTTP/1.1\r\nhOST:  a \r\nExpect: 100-continue\r\ncontent-LENGTH: 07\r\nX-A:\tb\t\r\ny:c\r\n"
    raw += b"X-Request-ID: r\r\nTE: trailers\r\nx_mesh_client_id: me\r\nConnection: close, x-b\r\nX-B: d\r\nz:\r\n\r\n"
    assert read_request_head(raw, _LIMITS) == RequestHead(
        method=b"POST",
        target=Target(TargetForm.ORIGIN, b"/a", b"b"),
        version=Version.HTTP_1_1,
        fields=RequestFields(
            host=b"a",
            carried=b"\r\nX-A: b\r\ny: c\r\nz: ",
            framing=Framing(FramingKind.LENGTH, 7),
            keep_alive=False,
            expects_continue=True,
            upgrade=None,
            takes_trailers=True,
        ),
        request_id=b"r",
        traceparent=None,
    )


def test_a_response_in_full() -> None:
    raw = b"HTTP/1.0 304 Not  Modified\r\nContent-Length: 7\r\nDate: today\r\nConnection: Keep-Alive\r\n\r\n"
    assert read_response_head(b"GET", raw, _LIMITS) == ResponseHead(
        status=304,
        reason=b"Not  Modified",
        version=Version.HTTP_1_0,
        carried=b"\r\nDate: today",
        framing=Framing(FramingKind.NONE, 7),
        keep_alive=True,
    )


@pytest.mark.parametrize(
    ("raw", "framing", "keep_alive"),
    [
        (
            b"HTTP/1.1 200 OK\r\n\r\n",
            FramingKind.UNTIL_CLOSE,
            False,
        ),  # RFC 9112 section 9.3: its end is the connection's
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", FramingKind.LENGTH, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", FramingKind.LENGTH, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", FramingKind.LENGTH, False),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n", FramingKind.NONE, True),
        (b"HTTP/1.1 100\r\n\r\n", FramingKind.NONE, True),
    ],
)
def test_whether_a_connection_goes_on(raw: bytes, framing: FramingKind, keep_alive: bool) -> None:  # noqa: FBT001
    head = read_response_head(b"GET", raw, _LIMITS)
    assert (head.framing.kind, head.keep_alive) == (framing, keep_alive)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"CONNECT a:443 HTTP/1.1", 405),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"HTTP/1.1 200 OK", 400),
        (b"", 400),
    ],
)
def test_start_lines_that_are_refused(start: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        read_request_head(start + b"\r\nHost: a\r\n\r\n", _LIMITS)
    assert caught.value.status == status


def test_http_1_0_waits_for_no_body() -> None:
    head = read_request_head(b"POST / HTTP/1.0\r\n\r\n", _LIMITS)
    assert head.fields.framing == NO_BODY
    assert not head.fields.keep_alive
