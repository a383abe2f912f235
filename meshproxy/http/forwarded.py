"""One request and its answer as they are passed on: written from what was judged.

A field that only passes keeps the line it was judged in; whatever decides how a message is taken is written anew. `Via`
is added to requests: RFC 9110 section 7.6.3 asks it of every gateway, and it tells loops. Who called stands last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.http.fields import CLIENT_ID, REQUEST_ID, TRACEPARENT, outgoing_trailers
from meshproxy.http.head import BadMessage, FramingKind, Version
from meshproxy.http.writing import chunk_start, fields_text, last_chunk, request_bytes, response_bytes

if TYPE_CHECKING:
    from meshproxy.http.codec import Part, Piece
    from meshproxy.http.head import Field, Framing, RequestFields, RequestHead, ResponseHead

# RFC 9110 section 9.2.1: nothing happens twice if such a request is sent twice.
_SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

# An upstream may send interim answers for as long as it likes; a hostile one would for ever.
_MOST_INTERIM: Final = 32

# What an HTTP/1.0 client has asked that names no host: this machine. An empty Host would be legal and refused by many,
# the inbound side of our own kind among them.
_DEFAULT_HOST: Final = b"localhost"

# Bound once: to look a member up in its class takes ten times as long on Python 3.11.
_NONE: Final = FramingKind.NONE
_CHUNKED: Final = FramingKind.CHUNKED
_UNTIL_CLOSE: Final = FramingKind.UNTIL_CLOSE
_OLD: Final = Version.HTTP_1_0

# Texts of fields, as `fields_text` makes them of pairs; that way each head would take 2 us more.
_OURS: Final = b"\r\nVia: %%b\r\n%b: %%b\r\n%b: %%b" % (REQUEST_ID, TRACEPARENT)
_CALLER: Final = b"\r\n%b: %%b" % CLIENT_ID
_LENGTH: Final = b"\r\nContent-Length: %d"
_IN_CHUNKS: Final = b"\r\nTransfer-Encoding: chunked"
_ID: Final = b"\r\n%b: %%b" % REQUEST_ID
_CLOSE: Final = b"\r\nConnection: close"


def forwarded_head(
    head: RequestHead, client_id: bytes | None, request_id: bytes, traceparent: bytes, host: bytes | None
) -> bytes:
    """Return the head of a granted request, towards the service.

    `client_id` is what the service is told about the caller (None: nothing, but nobody else tells it either), `host`
    replaces the Host.
    """
    fields = head.fields
    via = b"1.1 meshproxy" if head.version is not _OLD else b"1.0 meshproxy"
    ours, count = _OURS % (via, request_id, traceparent), 3
    if client_id is not None:
        ours += _CALLER % client_id
        count += 1
    if fields.framing.kind is not _NONE:
        ours = _framing_text(fields.framing) + ours
        count += 1
    if fields.takes_trailers or fields.upgrade is not None or fields.expects_continue:
        asked = _asked(fields)
        ours = fields_text(asked) + ours
        count += len(asked)
    # RFC 9112 section 3.2.2: the target's Host; where an HTTP/1.0 request has none, a default (section 3.3).
    host = host or fields.host or _DEFAULT_HOST
    return request_bytes(head.method, head.target.as_origin_form(), host, fields.carried, ours, count=count)


def can_be_sent_again(head: RequestHead) -> bool:
    """Whether nothing happens twice, and nothing is lost, when the request is sent twice."""
    return head.fields.framing.kind is _NONE and head.method in _SAFE_METHODS


class ForwardedAnswer:
    """The answer to one request, towards the caller.

    `head` is the final head, once it has come; `chunked` tells how its body is framed.
    """

    __slots__ = ("_interim", "_request", "_request_id", "chunked", "head")

    def __init__(self, request: RequestHead, request_id: bytes) -> None:
        self.head: ResponseHead | None = None
        self._request = request
        self._request_id = request_id
        self.chunked = False
        self._interim = 0

    def __repr__(self) -> str:
        return f"<ForwardedAnswer head={self.head} interim={self._interim}>"

    @property
    def runs_until_close(self) -> bool:
        """Whether only the end of the upstream's stream ends it."""
        return self.head is not None and self.head.framing.kind is _UNTIL_CLOSE

    def interim(self, head: ResponseHead) -> bytes:
        """Return an interim answer (RFC 9110 section 15.2), `b""` for an HTTP/1.0 caller, who knows none.

        Raises BadMessage when they do not end.
        """
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise BadMessage(502, "the upstream sends interim answers without end")
        if self._request.version is _OLD:
            return b""
        return response_bytes(head.status, head.reason, head.carried, b"", count=0)

    def begin(self, head: ResponseHead, *, close: bool) -> bytes:
        """Return the head of the final answer; `close` tells the caller that the connection ends with it.

        A body of unknown length is chunked for who knows chunks, and ends with the connection for HTTP/1.0.
        """
        framing = head.framing
        ours, count = _ID % self._request_id, 1
        if framing.kind is _CHUNKED or framing.kind is _UNTIL_CLOSE:
            self.chunked = self._request.version is not _OLD
            if self.chunked:
                ours, count = _IN_CHUNKS + ours, 2
        elif framing.length >= 0:
            ours, count = _framing_text(framing) + ours, 2
        if close:
            ours += _CLOSE
            count += 1
        self.head = head
        return response_bytes(head.status, head.reason, head.carried, ours, count=count)

    def switch(self, head: ResponseHead) -> bytes:
        """Return the 101 that grants the switch the caller offered (RFC 9110 section 7.8); raises BadMessage."""
        if self._request.fields.upgrade is None:
            raise BadMessage(502, "the upstream switches protocols unasked")
        if head.upgrade is None:  # RFC 9110 section 15.2.2
            raise BadMessage(502, "a 101 that names no protocol we would have offered")
        # RFC 9110 section 7.8: a server MUST NOT switch to what the client did not name in its request.
        offered = self._request.fields.upgrade.lower().split(b", ")
        for protocol in head.upgrade.split(b", "):
            if protocol.lower() not in offered:
                raise BadMessage(502, f"a 101 to {protocol[:40]!r}, which was not offered")
        ours = [(REQUEST_ID, self._request_id), (b"Upgrade", head.upgrade), (b"Connection", b"upgrade")]
        return response_bytes(head.status, head.reason, head.carried, fields_text(ours), count=len(ours))


def write_piece(piece: Piece, to: list[Part], *, chunked: bool) -> None:
    """Append a piece of a body, framed as its head says: what it consists of as it is, framing around it."""
    if not chunked:
        to.append(piece.first)
        to += piece.rest
        return
    if size := piece.size:
        to += (chunk_start(size), piece.first, *piece.rest, b"\r\n")
    if piece.last:
        to.append(last_chunk(outgoing_trailers(piece.trailers) if piece.trailers else ()))


def _asked(fields: RequestFields) -> list[Field]:
    """Return what is asked of the next connection, with the Connection field that says so, and the expectation."""
    asked: list[Field] = []
    options = []
    if fields.takes_trailers:
        options.append(b"TE")
        asked.append((b"TE", b"trailers"))  # RFC 9110 section 10.1.4: never another value than our own
    if fields.upgrade is not None:
        options.append(b"upgrade")
        asked.append((b"Upgrade", fields.upgrade))
    if options:
        asked.append((b"Connection", b", ".join(options)))
    if fields.expects_continue:
        asked.append((b"Expect", b"100-continue"))
    return asked


def _framing_text(framing: Framing) -> bytes:
    return _IN_CHUNKS if framing.kind is _CHUNKED else _LENGTH % framing.length
