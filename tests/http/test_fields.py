from __future__ import annotations

import random

import pytest

from meshproxy.http import fields
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.head import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    BadMessage,
    Field,
    Framing,
    FramingKind,
    HeadLimits,
    RequestHead,
    ResponseHead,
    Version,
)

_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _request(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: a") -> RequestHead:
    reader = RequestReader(HeadLimits())
    reader.feed(b"\r\n".join(line for line in [start, host, *lines, b"", b""] if line or line is not host))
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


def _response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    reader = ResponseReader(HeadLimits())
    reader.expect(b"GET")
    reader.feed(b"\r\n".join([start, *lines, b"", b""]))
    head = reader.next()
    assert isinstance(head, ResponseHead)
    return head


def _out(head: RequestHead, host: bytes | None = None, client_id: bytes | None = b"spiffe://td/web") -> list[Field]:
    return fields.outgoing_request(head, client_id=client_id, request_id=b"r-1", traceparent=_TRACE, host=host)


_OURS = [(b"Via", b"1.1 meshproxy"), (b"x-request-id", b"r-1"), (b"traceparent", _TRACE)]
_LAST = [(b"x-mesh-client-id", b"spiffe://td/web")]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ((b"Accept: b", b"aCCEPT: c"), [(b"Accept", b"b"), (b"aCCEPT", b"c")]),
        ((b"Connection: close, X-A,,x-b", b"X-A: 1", b"x-B: 2", b"X-C: 3"), [(b"X-C", b"3")]),  # RFC 9110 7.6.1
        ((b"Connection: keep-alive", b"Connection: x-a", b"X-A: 1"), []),
        ((b"Keep-Alive: 1", b"Proxy-Connection: close", b"Proxy-Authorization: Basic x"), []),
        ((b"HTTP2-Settings: x", b"Upgrade: websocket"), []),  # no Connection: upgrade
        ((b"Connection: upgrade", b"Upgrade: h2c"), []),
        ((b"Connection: upgrade", b"Upgrade: websocket, H2C"), []),
        ((b"Connection: upgrade", b"Upgrade: HTTP/2.0"), []),
        ((b"Connection: upgrade", b"Upgrade: TLS/1.2"), []),
        ((b"Connection: upgrade", b"Upgrade: a b"), []),
        ((b"Connection: upgrade, close", b"Upgrade: websocket"), []),
        ((b"Connection: Upgrade", b"Upgrade: websocket"), [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")]),
        ((b"TE: gzip;q=0.5, Trailers", b"Connection: TE"), [(b"TE", b"trailers"), (b"Connection", b"TE")]),
        ((b"TE: gzip", b"TE: trailers;q=0.5"), []),
        ((b"Content-Length: 0005",), [(b"Content-Length", b"5")]),
        ((b"Transfer-Encoding: CHUNKED",), [(b"Transfer-Encoding", b"chunked")]),
        ((b"Content_Length: 7", b"Transfer.Encoding: chunked", b"KEEP_ALIVE: 1"), []),  # how CGI and WSGI fold names
        ((b"Content-Length: 5", b"Expect: 100-Continue"), [(b"Expect", b"100-continue"), (b"Content-Length", b"5")]),
        ((b"Expect: 100-continue",), []),  # RFC 9110 10.1.1: nothing follows that could wait
        ((b"X-Request-ID: theirs", b"X_Request_Id: theirs", b"Traceparent: theirs"), []),
        ((b"X-Forwarded-For: 1.2.3.4", b"Via: 1.1 x"), [(b"X-Forwarded-For", b"1.2.3.4"), (b"Via", b"1.1 x")]),
    ],
)
def test_what_is_forwarded(lines: tuple[bytes, ...], kept: list[Field]) -> None:
    assert _out(_request(*lines)) == [(b"Host", b"a"), *kept, *_OURS, *_LAST]


@pytest.mark.parametrize(
    "name",
    b"x-mesh-client-id X-Mesh-Client-ID X_MESH_CLIENT_ID x.mesh~client|id x-mesh-client_id X-Forwarded-Client-Cert"
    b" x_forwarded-client_cert".split(),
)
@pytest.mark.parametrize("client_id", [b"spiffe://td/web", None])
def test_nobody_else_tells_who_called(name: bytes, client_id: bytes | None) -> None:
    assert fields.is_identity_spelling(name)
    out = _out(_request(name + b": spiffe://evil/a", b"X-A: 1", name + b": spiffe://evil/b"), client_id=client_id)
    assert b"evil" not in repr(out).encode()
    assert [field for field in out if fields.is_identity_spelling(field[0])] == ([] if client_id is None else _LAST)
    assert client_id is None or out[-1:] == _LAST
    assert fields.outgoing_trailers([(name, b"spiffe://evil/a")]) == []


@pytest.mark.parametrize("name", [b"x-mesh-client-i", b"xmeshclientid", b"x-mesh-client-id-2", b"x--mesh-client-id"])
def test_other_names_are_other_fields(name: bytes) -> None:
    assert not fields.is_identity_spelling(name)
    assert (name, b"1") in _out(_request(name + b": 1"))


@pytest.mark.parametrize(
    "option",
    b"Host content-length Transfer-Encoding x-mesh-client-id X_Mesh_Client_Id authorization x-forwarded-client-cert"
    b" Cookie content-type".split(),
)
def test_connection_may_not_take_what_is_not_the_senders(option: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        fields.connection_options([(b"Connection", b"close ,\t" + option)])
    assert caught.value.status == 400


def test_which_host_is_forwarded() -> None:
    assert _out(_request(host=b"hOst: A:80"))[0] == (b"Host", b"A:80")
    assert _out(_request(start=b"GET http://A/x HTTP/1.1", host=b"Host: a:80"))[0] == (b"Host", b"A")
    assert _out(_request(), host=b"other")[0] == (b"Host", b"other")
    old = _request(start=b"GET / HTTP/1.0", host=b"X: y")
    assert _out(old)[0] == (b"Host", b"localhost")  # RFC 9112 section 3.3: a default
    assert (b"Via", b"1.0 meshproxy") in _out(old)
    assert [name for name, _ in _out(_request(), host=b"other")].count(b"Host") == 1


def test_the_state_of_a_trace_goes_with_its_parent_only() -> None:
    state = (b"tracestate", b"a=1")
    assert state in _out(_request(b"Traceparent: " + _TRACE, b"tracestate: a=1"))
    assert state not in _out(_request(b"tracestate: a=1"))
    assert state not in _out(_request(b"traceparent: bad", b"tracestate: a=1"))


@pytest.mark.parametrize(
    ("version", "connection", "alive"),
    [
        (Version.HTTP_1_1, b"", True),
        (Version.HTTP_1_1, b"Close", False),
        (Version.HTTP_1_1, b"close, keep-alive", False),
        (Version.HTTP_1_0, b"", False),
        (Version.HTTP_1_0, b"Keep-Alive", True),
        (Version.HTTP_1_0, b"keep-alive, close", False),
    ],
)
def test_keeping_alive(version: Version, connection: bytes, alive: bool) -> None:  # noqa: FBT001 - a table's column
    """RFC 9112 section 9.3."""
    assert fields.keeps_alive(version, fields.connection_options([(b"Connection", connection)])) is alive


def test_expectations() -> None:
    """RFC 9110 section 10.1.1."""
    body = Framing(FramingKind.LENGTH, 1)
    expect = [(b"Expect", b"100-CONTINUE")]
    assert fields.expects_continue(Version.HTTP_1_1, body, expect)
    assert not fields.expects_continue(Version.HTTP_1_0, body, expect)
    assert not fields.expects_continue(Version.HTTP_1_1, NO_BODY, expect)
    with pytest.raises(BadMessage) as caught:
        fields.expects_continue(Version.HTTP_1_1, body, [(b"Expect", b"x 100-continue")])
    assert caught.value.status == 417


@pytest.mark.parametrize(
    ("framing", "close", "expected"),
    [
        (Framing(FramingKind.LENGTH, 3), False, [(b"Content-Length", b"3")]),
        (Framing(FramingKind.NONE, 3), False, [(b"Content-Length", b"3")]),
        (NO_BODY, False, []),
        (CHUNKED, False, [(b"Transfer-Encoding", b"chunked")]),
        (UNTIL_CLOSE, True, []),
    ],
)
def test_responses(framing: Framing, close: bool, expected: list[Field]) -> None:  # noqa: FBT001 - a table's column
    head = _response(
        b"Content-Length: 9", b"Connection: x-a", b"X-A: 1", b"Keep-Alive: 1", b"Set-Cookie: b", b"Upgrade: c"
    )
    out = fields.outgoing_response(head, framing=framing, close=close, request_id=b"r")
    assert out == [
        (b"Set-Cookie", b"b"),
        *expected,
        (b"x-request-id", b"r"),
        *([(b"Connection", b"close")] if close else []),
    ]


def test_interim_responses_and_switches() -> None:
    hints = _response(b"Link: a", b"Connection: close", start=b"HTTP/1.1 103 Early Hints")
    assert fields.outgoing_interim(hints) == [(b"Link", b"a")]
    switch = _response(
        b"Connection: Upgrade", b"Upgrade: websocket", b"X: y", start=b"HTTP/1.1 101 Switching Protocols"
    )
    assert fields.outgoing_upgrade(switch, request_id=b"r") == [
        (b"X", b"y"),
        (b"x-request-id", b"r"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"upgrade"),
    ]
    for bad in (b"X: y", b"Upgrade: h2c"):
        with pytest.raises(BadMessage):
            fields.outgoing_upgrade(_response(bad, start=b"HTTP/1.1 101 Switching Protocols"), request_id=b"r")


def test_trailers_decide_nothing() -> None:
    """RFC 9110 section 6.5.1."""
    refused = b"""content-length transfer-encoding host connection te trailer authorization cookie set-cookie expect
        content-type content-encoding cache-control x-mesh-client-id x_mesh_client_id x-forwarded-for X-Forwarded-Host
        forwarded via x-request-id traceparent Content_Length range location""".split()
    kept = [(b"grpc-status", b"0"), (b"X-Checksum", b"1"), (b"server-timing", b"a")]
    assert fields.outgoing_trailers([*((name, b"1") for name in refused), *kept]) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (_TRACE, True),
        (_TRACE.replace(b"00-", b"01-", 1) + b"-more", True),
        (_TRACE + b"-more", False),
        (_TRACE.replace(b"00-", b"ff-", 1), False),
        (_TRACE.upper(), False),
        (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01", False),
        (_TRACE[:-1], False),
        (b"", False),
    ],
)
def test_traces(value: bytes, kept: bool) -> None:  # noqa: FBT001 - a table's column
    """W3C Trace Context section 3.2.2."""
    assert fields.read_traceparent([(b"TraceParent", value)]) == (value if kept else None)
    assert fields.read_traceparent([(b"traceparent", value), (b"traceparent", value)]) is None


def test_new_ids_are_well_formed() -> None:
    rng = random.Random(1)
    trace = fields.new_traceparent(rng)
    assert fields.read_traceparent([(b"traceparent", trace)]) == trace
    assert fields.trace_id(_TRACE) == b"0af7651916cd43dd8448eb211c80319c"
    made = fields.new_request_id(rng)
    assert fields.read_request_id([(b"X-Request-Id", made)]) == made
    for bad in (b"", b"a b", b"a" * 129, b"\xe9"):
        assert fields.read_request_id([(b"x-request-id", bad)]) is None
