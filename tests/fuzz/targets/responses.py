"""A service's bytes, read as the answer to a request: the same in any portions, and what is passed on is sound."""

from __future__ import annotations

from meshproxy.http.codec import Piece, ResponseReader
from meshproxy.http.forwarded import ForwardedAnswer, write_piece
from meshproxy.http.head import BadMessage, FramingKind, HeadLimits, ResponseHead
from meshproxy.http.parse import parse_request_head
from tests.fuzz.target import Target
from tests.http.corpus import RESPONSES

_LIMITS = HeadLimits(head_bytes=4096, fields=30, target=500)
_METHODS = (b"GET", b"HEAD", b"POST")
_MOST_PORTIONS = 400

_WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 ", b"HTTP/1.1 100 Continue\r\n\r\n"),
    *(b"HTTP/1.1 101 S\r\n", b"204 ", b"304 ", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\xff"),
    *(
        b"Connection: close\r\n",
        b"Connection: content-length\r\n",
        b"0\r\n\r\n",
        b"5;a=b\r\nhello\r\n",
        b"X: a\r\n b\r\n",
    ),
)


def _run(data: bytes) -> None:
    method, said = _METHODS[data[0] % 3] if data else b"GET", data[1:]
    at_once = _read(method, said, max(len(said), 1))
    for step in (1, 7):
        if len(said) / step <= _MOST_PORTIONS:
            assert _read(method, said, step) == at_once
    heads, body, complete, _ = at_once
    if heads and heads[-1].status >= 200:
        _passed_on(method, heads[-1], body, complete=complete)


def _read(method: bytes, said: bytes, step: int) -> tuple[list[ResponseHead], bytes, bool, bool]:
    reader = ResponseReader(_LIMITS)
    reader.expect(method)
    heads: list[ResponseHead] = []
    body, complete = b"", False
    try:
        for start in range(0, len(said) + step, step):
            if start < len(said):
                reader.feed(said[start : start + step])
            else:
                reader.eof()
            while (event := reader.next()) is not None:
                if isinstance(event, ResponseHead):
                    heads.append(event)
                    complete = event.status >= 200 and event.framing.kind is FramingKind.NONE
                else:
                    body += event.payload
                    complete = event.last
    except BadMessage:
        return heads, body, complete, True
    return heads, body, complete, False


def _passed_on(method: bytes, head: ResponseHead, body: bytes, *, complete: bool) -> None:
    request = parse_request_head(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method, HeadLimits())
    answer = ForwardedAnswer(request, b"r-1")
    told: list[bytes | memoryview] = [answer.begin(head, close=False)]
    if head.framing.kind is not FramingKind.NONE and (body or complete):
        write_piece(Piece(body, last=complete), told, chunked=answer.chunked)
    text = b"".join(told)
    heads, again, is_complete, is_faulty = _read(method, text, len(text))
    assert [(each.status, each.reason) for each in heads] == [(head.status, head.reason)]
    assert again == body
    assert is_complete is complete
    assert is_faulty is not complete


TARGET = Target(
    _run,
    tuple(bytes((_METHODS.index(case.asked[0]),)) + case.raw for case in RESPONSES if len(case.raw) < 2000),
    _WORDS,
)
