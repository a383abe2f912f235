from __future__ import annotations

import msgspec
import pytest

from meshproxy.http import parse
from meshproxy.http.codec import Piece, RequestReader, ResponseReader
from meshproxy.http.fields import is_identity_spelling, outgoing_trailers
from meshproxy.http.forwarded import ForwardedAnswer, forwarded_head, write_piece
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
)
from tests.http.texts import fields_in


@pytest.fixture(autouse=True, params=[True, False], ids=["fast lane open", "fast lane shut"])
def _lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "USE_FAST_LANE", request.param)


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
    request = forwarded_head(head, client_id=client_id, request_id=b"r-1", traceparent=_TRACE, host=host)
    return fields_in(request)


def _answers(*asked: bytes, start: bytes = b"GET /x HTTP/1.1") -> ForwardedAnswer:
    return ForwardedAnswer(_request(*asked, start=start), b"r")


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
    assert is_identity_spelling(name)
    out = _out(_request(name + b": spiffe://evil/a", b"X-A: 1", name + b": spiffe://evil/b"), client_id=client_id)
    assert b"evil" not in repr(out).encode()
    assert [field for field in out if is_identity_spelling(field[0])] == ([] if client_id is None else _LAST)
    assert client_id is None or out[-1:] == _LAST
    assert outgoing_trailers([(name, b"spiffe://evil/a")]) == []


@pytest.mark.parametrize("name", [b"x-mesh-client-i", b"xmeshclientid", b"x-mesh-client-id-2", b"x--mesh-client-id"])
def test_other_names_are_other_fields(name: bytes) -> None:
    assert not is_identity_spelling(name)
    assert (name, b"1") in _out(_request(name + b": 1"))


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
    ("framing", "old", "close", "expected"),
    [
        (Framing(FramingKind.LENGTH, 3), False, False, [(b"Content-Length", b"3")]),
        (Framing(FramingKind.NONE, 3), False, False, [(b"Content-Length", b"3")]),
        (NO_BODY, False, False, []),
        (CHUNKED, False, False, [(b"Transfer-Encoding", b"chunked")]),
        (UNTIL_CLOSE, False, False, [(b"Transfer-Encoding", b"chunked")]),
        (UNTIL_CLOSE, True, True, []),
        (CHUNKED, True, True, []),
    ],
)
def test_responses(
    framing: Framing,
    old: bool,  # noqa: FBT001 - a table's column
    close: bool,  # noqa: FBT001 - a table's column
    expected: list[Field],
) -> None:
    head = _response(
        b"Content-Length: 9", b"Connection: x-a", b"X-A: 1", b"Keep-Alive: 1", b"Set-Cookie: b", b"Upgrade: c"
    )
    head = msgspec.structs.replace(head, framing=framing)
    begun = _answers(start=b"GET / HTTP/1.0" if old else b"GET / HTTP/1.1").begin(head, close=close)
    assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
    assert fields_in(begun) == [
        (b"Set-Cookie", b"b"),
        *expected,
        (b"x-request-id", b"r"),
        *([(b"Connection", b"close")] if close else []),
    ]


def test_a_response_keeps_its_fields_in_their_order_and_spelling() -> None:
    kept = [(b"server", b"x"), (b"Set-Cookie", b"b"), (b"SET-COOKIE", b"c: d"), (b"Host", b"h"), (b"Via", b"1.1 x")]
    lines = [name + b": " + value for name, value in kept]
    head = _response(lines[0], b"X-Request-Id: theirs", *lines[1:], b"Content_Length: 7", b"content-length: 5")
    out = fields_in(_answers().begin(head, close=False))
    assert out == [*kept, (b"Content-Length", b"5"), (b"x-request-id", b"r")]


def test_interim_responses_and_switches() -> None:
    hints = _response(b"Link: a", b"Connection: close", start=b"HTTP/1.1 103 Early Hints")
    assert _answers().interim(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    assert _answers(start=b"GET / HTTP/1.0").interim(hints) == b""
    asked = (b"Connection: upgrade", b"Upgrade: websocket")
    said = (b"Connection: Upgrade", b"Upgrade: websocket", b"X: y")
    switch = _response(*said, start=b"HTTP/1.1 101 Switching Protocols")
    assert fields_in(_answers(*asked).switch(switch)) == [
        (b"X", b"y"),
        (b"x-request-id", b"r"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"upgrade"),
    ]
    with pytest.raises(BadMessage):
        _answers().switch(switch)
    for bad in (b"X: y", b"Upgrade: h2c", b"Upgrade: other", b"Upgrade: websocket, other", b"Upgrade: websocket/2"):
        with pytest.raises(BadMessage):
            _answers(*asked).switch(_response(bad, start=b"HTTP/1.1 101 Switching Protocols"))


def test_a_switch_may_be_to_any_of_what_was_offered_in_any_case() -> None:
    asked = (b"Connection: upgrade", b"Upgrade: websocket, IRC/6.9", b"Upgrade: x")
    for granted in (b"WebSocket", b"irc/6.9", b"x, websocket"):
        switch = _response(b"Connection: Upgrade", b"Upgrade: " + granted, start=b"HTTP/1.1 101 Switching Protocols")
        assert (b"Upgrade", granted) in fields_in(_answers(*asked).switch(switch))


def test_a_body_is_passed_on_as_it_is() -> None:
    payload = bytes(100_000)
    for start, chunked in ((b"GET / HTTP/1.1", True), (b"GET / HTTP/1.0", False)):
        answer = _answers(start=start)
        answer.begin(_response(b"Transfer-Encoding: chunked"), close=False)
        told: list[bytes | memoryview] = []
        write_piece(Piece(payload), told, chunked=answer.chunked)
        assert any(piece is payload for piece in told)  # not a copy
        trailers = ((b"X-Sum", b"1"), (b"X-Mesh-Client-Id", b"me"))
        write_piece(Piece(b"end", last=True, trailers=trailers), told, chunked=answer.chunked)
        end = b"\r\n3\r\nend\r\n0\r\nX-Sum: 1\r\n\r\n"
        assert b"".join(told) == (b"186a0\r\n" + payload + end if chunked else payload + b"end")
