"""Heads that were written before, towards the same side of the same connection: all but what changes is kept.

What a head says is written by `forwarded`, and kept by the identity of the value it was written from: who repeats
itself gives the same value again (see `familiar`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.http.fields import REQUEST_ID, TRACEPARENT
from meshproxy.http.forwarded import ForwardedAnswer, forwarded_head
from meshproxy.http.writing import rewritten

if TYPE_CHECKING:
    from meshproxy.http.head import RequestFields, RequestHead, ResponseHead

_BEFORE_ID: Final = b"\r\n%b: " % REQUEST_ID
_REQUEST: Final = b"%%b %%b%%b%%b\r\n%b: %%b%%b" % TRACEPARENT
_ANSWER: Final = b"%b%b\r\n\r\n"


class KeptRequest:
    """Writes the heads of granted requests; `host` as for `forwarded_head`, which it does the work of."""

    __slots__ = ("_after", "_before", "_client_id", "_ends", "_fields", "_host")

    def __init__(self, host: bytes | None) -> None:
        self._host = host
        self._fields: RequestFields | None = None  # what was written last, and for whom
        self._client_id: bytes | None = None
        self._before = self._after = b""  # from the target to the request id, and behind the trace
        self._ends = 0  # of lines, in all

    def __repr__(self) -> str:
        return f"<KeptRequest of {len(self._before)} bytes>"

    def head(self, head: RequestHead, client_id: bytes | None, request_id: bytes, traceparent: bytes) -> bytes:
        """As `forwarded_head`."""
        target = head.target
        method, path = head.method, target.path if target.query is None else target.as_origin_form()
        if head.fields is self._fields and client_id is self._client_id:
            text = _REQUEST % (method, path, self._before, request_id, traceparent, self._after)
            return rewritten(text, self._ends)
        text = forwarded_head(head, client_id, request_id, traceparent, self._host)
        id_at = text.rindex(_BEFORE_ID) + len(_BEFORE_ID)
        self._before = text[len(method) + len(path) + 1 : id_at]
        self._after = text[text.index(b"\r\n", id_at + len(request_id) + 2) :]
        self._fields, self._client_id, self._ends = head.fields, client_id, text.count(b"\r\n")
        return text


class KeptAnswer:
    """Writes the heads of final answers that end no connection, for callers who know HTTP/1.1."""

    __slots__ = ("_before", "_head")

    def __init__(self) -> None:
        self._head: ResponseHead | None = None
        self._before = b""  # up to the request id, which is the last

    def __repr__(self) -> str:
        return f"<KeptAnswer of {len(self._before)} bytes>"

    def head(self, head: ResponseHead, request: RequestHead, request_id: bytes) -> bytes:
        """As `ForwardedAnswer.begin`; the id was written towards the service before, so it holds no line end."""
        if head is self._head:
            return _ANSWER % (self._before, request_id)
        text = ForwardedAnswer(request, request_id).begin(head, close=False)
        self._head, self._before = head, text[: -len(request_id) - 4]
        return text
