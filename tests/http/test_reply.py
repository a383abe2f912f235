from __future__ import annotations

import json

import pytest

from meshproxy.http.codec import Piece, ResponseReader
from meshproxy.http.head import HeadLimits, ResponseHead
from meshproxy.http.reply import problem
from meshproxy.http.writing import Unwritable
from tests.http.texts import fields_in


def _read(raw: bytes, method: bytes = b"GET") -> tuple[ResponseHead, dict[bytes, bytes], bytes]:
    reader = ResponseReader(HeadLimits())
    reader.expect(method)
    reader.feed(raw)
    head = reader.next()
    assert isinstance(head, ResponseHead)
    body = b""
    while isinstance(event := reader.next(), Piece):
        body += event.payload
    assert not reader.mid_message
    assert not reader.buffered
    return head, dict(fields_in(raw.partition(b"\r\n\r\n")[0])), body


def test_a_denial() -> None:
    head, fields, body = _read(
        problem(403, title="No", request_id=b"r-1", error_token="http_request_denied", close=False)
    )
    assert (head.status, head.reason, head.keep_alive) == (403, b"Forbidden", True)
    assert json.loads(body) == {"title": "No", "status": 403, "request_id": "r-1"}
    assert fields.pop(b"Content-Length") == b"%d" % len(body)
    assert fields == {
        b"Content-Type": b"application/problem+json",
        b"Cache-Control": b"no-store",
        b"x-request-id": b"r-1",
        b"Proxy-Status": b"meshproxy; error=http_request_denied",
    }


def test_an_end_of_the_connection() -> None:
    raw = problem(503, title="Later", request_id=b"r", error_token=None, close=True, retry_after=7)
    head, fields, _ = _read(raw)
    assert not head.keep_alive
    assert fields[b"Retry-After"] == b"7"
    assert b"Proxy-Status" not in fields


def test_head_is_answered_without_a_body() -> None:
    whole = problem(403, title="No", request_id=b"r", error_token=None, close=False)
    bare = problem(403, title="No", request_id=b"r", error_token=None, close=False, with_body=False)
    assert whole.startswith(bare)
    assert _read(bare, b"HEAD")[2] == b""


def test_a_request_id_cannot_split_the_reply() -> None:
    with pytest.raises(Unwritable):
        problem(403, title="No", request_id=b"r\r\nX: y", error_token=None, close=False)
