"""A caller's bytes, read as requests: the same however they come in portions, and the same once written anew."""

from __future__ import annotations

from meshproxy.http.codec import Piece, RequestReader
from meshproxy.http.forwarded import forwarded_head
from meshproxy.http.head import BadMessage, FramingKind, HeadLimits, RequestHead
from meshproxy.http.parse import parse_request_head
from tests.fuzz.target import Target
from tests.http.corpus import REQUESTS

_LIMITS = HeadLimits(head_bytes=4096, fields=30, target=500)
_CALLER = b"spiffe://mesh.test/caller"
_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_MOST_PORTIONS = 400

WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b": ", b"HTTP/1.1", b"HTTP/1.0", b"GET ", b"POST ", b"CONNECT "),
    *(b"Host: a\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(
        b"Connection: keep-alive, upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"TE: trailers\r\n",
    ),
    *(b"x-mesh-client-id: me\r\n", b"X_Mesh_Client_Id: me\r\n", b"traceparent: ", b"x-request-id: r\r\n", b"0\r\n\r\n"),
    *(b"5;a=b\r\nhello\r\n", b"http://a/", b"/../", b"%2e", b"%2F", b"//", b";", b"?", b"#", b"\xff", b"\x80"),
)


def read(data: bytes, step: int) -> tuple[list[tuple[RequestHead, bytes]], bool]:
    """The requests that were read to their end, and whether a refusal followed.

    Of two faults in one head the one that came first is told, or the one that is looked for first: not asked here.
    """
    reader = RequestReader(_LIMITS)
    whole: list[tuple[RequestHead, bytes]] = []
    head: RequestHead | None = None
    body = b""
    try:
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            while (event := reader.next()) is not None:
                if isinstance(event, RequestHead):
                    head, body = event, b""
                    if head.fields.framing.kind is FramingKind.NONE:
                        whole.append((head, b""))
                    continue
                assert isinstance(event, Piece)
                body += event.payload
                if event.last:
                    assert head is not None
                    whole.append((head, body))
    except BadMessage as bad:
        assert 400 <= bad.status <= 505
        return whole, True
    return whole, False


def _run(data: bytes) -> None:
    at_once = read(data, max(len(data), 1))
    for step in (1, 7):
        if len(data) / step <= _MOST_PORTIONS:
            assert read(data, step) == at_once
    for head, _ in at_once[0]:
        _written_anew(head)


def _written_anew(head: RequestHead) -> None:
    """What is forwarded is sound by the strictest reader, and says the same; who called is what we say."""
    text = forwarded_head(head, _CALLER, b"r-1", _TRACE, None)
    again = parse_request_head(text, HeadLimits())
    assert (again.method, again.target.path, again.target.query) == (head.method, head.target.path, head.target.query)
    assert again.fields.framing == head.fields.framing
    assert (again.request_id, again.traceparent) == (b"r-1", _TRACE)
    assert again.fields.host == (head.fields.host or b"localhost")
    lines = [line.partition(b":") for line in text.split(b"\r\n")[1:-2]]
    folded = [bytes(byte if chr(byte).isalnum() else 45 for byte in name.lower()) for name, _, _ in lines]
    assert folded.count(b"x-mesh-client-id") == 1
    assert lines[folded.index(b"x-mesh-client-id")][2].strip() == _CALLER
    assert b"x-forwarded-client-cert" not in folded
    assert folded.count(b"host") == 1
    assert folded.count(b"content-length") + folded.count(b"transfer-encoding") <= 1


TARGET = Target(_run, tuple(case.raw for case in REQUESTS if len(case.raw) < 2000), WORDS)
