"""One request and its answer as they are passed on: written anew from what was judged, never copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.http import codec, fields
from meshproxy.http.codec import Data, End
from meshproxy.http.head import CHUNKED, UNTIL_CLOSE, BadMessage, FramingKind, Version

if TYPE_CHECKING:
    from meshproxy.http.head import Field, RequestHead, ResponseHead

# RFC 9110 section 9.2.1: nothing happens twice if such a request is sent twice.
_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

# An upstream may send interim answers for as long as it likes; a hostile one would for ever.
_MOST_INTERIM = 32


class ForwardedRequest:
    """A granted request, towards the service; `fields` are all it is forwarded with."""

    __slots__ = ("_chunked", "can_be_sent_again", "head_bytes")

    def __init__(self, head: RequestHead, fields: list[Field]) -> None:
        self.head_bytes = codec.request_bytes(head.method, head.target.as_origin_form(), fields)
        self.can_be_sent_again = head.method in _SAFE_METHODS and head.framing.kind is FramingKind.NONE
        self._chunked = head.framing.kind is FramingKind.CHUNKED

    def __repr__(self) -> str:
        return f"<ForwardedRequest chunked={self._chunked} can_be_sent_again={self.can_be_sent_again}>"

    def body(self, event: Data | End) -> bytes:
        """Return a piece of the body, or its end, framed as the head says; `b""` where there is nothing to write."""
        if isinstance(event, Data):
            return codec.chunk(event.payload) if self._chunked else event.payload
        return codec.last_chunk(fields.outgoing_trailers(event.trailers)) if self._chunked else b""


class ForwardedAnswer:
    """The answer to one request, towards the caller. `head` is the final head, once it has come."""

    __slots__ = ("_chunked", "_interim", "_request", "_request_id", "head")

    def __init__(self, request: RequestHead, request_id: bytes) -> None:
        self.head: ResponseHead | None = None
        self._request = request
        self._request_id = request_id
        self._chunked = False
        self._interim = 0

    def __repr__(self) -> str:
        return f"<ForwardedAnswer head={self.head} interim={self._interim}>"

    @property
    def has_begun(self) -> bool:
        """Whether the service has said anything at all about this request."""
        return self.head is not None or self._interim > 0

    @property
    def runs_until_close(self) -> bool:
        """Whether only the end of the upstream's stream ends it."""
        return self.head is not None and self.head.framing.kind is FramingKind.UNTIL_CLOSE

    def interim(self, head: ResponseHead) -> bytes:
        """Return an interim answer (RFC 9110 section 15.2), `b""` for an HTTP/1.0 caller, who knows none.

        Raises BadMessage when they do not end.
        """
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise BadMessage(502, "the upstream sends interim answers without end")
        if self._request.version is Version.HTTP_1_0:
            return b""
        return codec.response_bytes(head.status, head.reason, fields.outgoing_interim(head))

    def begin(self, head: ResponseHead, *, close: bool) -> bytes:
        """Return the head of the final answer; `close` tells the caller that the connection ends with it.

        A body of unknown length is chunked for who knows chunks, and ends with the connection for HTTP/1.0. Raises
        BadMessage.
        """
        framing = head.framing
        chunked = False
        if framing.kind in {FramingKind.CHUNKED, FramingKind.UNTIL_CLOSE}:
            chunked = self._request.version is not Version.HTTP_1_0
            framing = CHUNKED if chunked else UNTIL_CLOSE
        outgoing = fields.outgoing_response(head, framing=framing, close=close, request_id=self._request_id)
        begun = codec.response_bytes(head.status, head.reason, outgoing)
        self.head, self._chunked = head, chunked
        return begun

    def body(self, event: Data | End) -> bytes:
        """Return a piece of the body, or its end; `b""` where there is nothing to write."""
        if isinstance(event, Data):
            return codec.chunk(event.payload) if self._chunked else event.payload
        return codec.last_chunk(fields.outgoing_trailers(event.trailers)) if self._chunked else b""

    def switch(self, head: ResponseHead) -> bytes:
        """Return the 101 that grants the switch the caller offered (RFC 9110 section 7.8); raises BadMessage."""
        if self._request.upgrade is None:
            raise BadMessage(502, "the upstream switches protocols unasked")
        outgoing = fields.outgoing_upgrade(head, request_id=self._request_id)
        return codec.response_bytes(head.status, head.reason, outgoing)
