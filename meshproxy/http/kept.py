"""Heads that were written before: all but what changes is kept.

What a head says is written by `forwarded`, and kept by the identity of the value it was written from: who repeats
itself gives the same value again (see `familiar`). All connections of a listener share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.http.familiar import FamiliarAnswers, FamiliarRequests, keep
from meshproxy.http.fields import REQUEST_ID, TRACEPARENT
from meshproxy.http.forwarded import ForwardedAnswer, forwarded_head
from meshproxy.http.writing import check_visible

if TYPE_CHECKING:
    from meshproxy.http.head import HeadLimits, RequestFields, RequestHead, ResponseHead

_BEFORE_ID: Final = b"\r\n%b: " % REQUEST_ID
_BEFORE_TRACE: Final = b"\r\n%b: " % TRACEPARENT

_LONGEST_KEPT: Final = 4096  # bytes


class KeptRequests:
    """Writes the heads of granted requests; `host` as for `forwarded_head`, which it does the work of."""

    __slots__ = ("_host", "_kept")

    def __init__(self, host: bytes | None) -> None:
        self._host = host
        # By what was written, which is held so that its identity stays its own, and for whom: what stands between
        # target and request id, and what stands behind the trace.
        self._kept: dict[tuple[int, bytes | None], tuple[RequestFields, bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"<KeptRequests with {len(self._kept)}>"

    def head(self, head: RequestHead, client_id: bytes | None, request_id: bytes, traceparent: bytes) -> bytes:
        """As `forwarded_head`."""
        target = head.target
        method, path = head.method, target.path if target.query is None else target.as_origin_form()
        kept = self._kept.get((id(head.fields), client_id))
        if kept is not None:
            _, before, after = kept
            check_visible(method + path + request_id + traceparent)
            return b"".join((method, b" ", path, before, request_id, _BEFORE_TRACE, traceparent, after))
        text = forwarded_head(head, client_id, request_id, traceparent, self._host)
        if len(text) > _LONGEST_KEPT:
            return text
        id_at = text.rindex(_BEFORE_ID) + len(_BEFORE_ID)
        before = text[len(method) + len(path) + 1 : id_at]
        after = text[text.index(b"\r\n", id_at + len(request_id) + 2) :]
        keep(self._kept, (id(head.fields), client_id), (head.fields, before, after))
        return text


class KeptAnswers:
    """Writes final answers whose length is known."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # As for requests: what stands before the request id, and behind it.
        self._kept: dict[tuple[int, bool], tuple[ResponseHead, bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"<KeptAnswers with {len(self._kept)}>"

    def whole(self, head: ResponseHead, body: bytes, request: RequestHead, request_id: bytes, *, close: bool) -> bytes:
        """As `ForwardedAnswer.begin`, and all of the body behind it.

        The id was written towards the service before, so it holds no line end.
        """
        kept = self._kept.get((id(head), close))
        if kept is not None:
            _, before, after = kept
            return b"".join((before, request_id, after, body))
        text = ForwardedAnswer(request, request_id).begin(head, close=close)
        if len(text) > _LONGEST_KEPT:
            return text + body
        id_at = text.rindex(_BEFORE_ID) + len(_BEFORE_ID)
        keep(self._kept, (id(head), close), (head, text[:id_at], text[id_at + len(request_id) :]))
        return text + body


class Memory:
    """What the exchanges of one listener have in common: the heads that come and go again and again."""

    __slots__ = ("from_caller", "from_service", "to_caller", "to_service")

    def __init__(self, limits: HeadLimits, host: bytes | None) -> None:
        """Remember nothing yet; `limits` bound the heads that come, `host` is as for `forwarded_head`."""
        self.from_caller = FamiliarRequests(limits)
        self.to_service = KeptRequests(host)
        self.from_service = FamiliarAnswers(limits)
        self.to_caller = KeptAnswers()

    def __repr__(self) -> str:
        return f"<Memory {self.from_caller!r} {self.to_service!r} {self.from_service!r} {self.to_caller!r}>"
