"""One request and one answer over TLS or in plain, read by the same HTTP floor as all traffic, and bounded in size.

A connection carries one exchange: who asks twice in a day needs no keep-alive. Deadlines are the caller's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.http.codec import Piece, RequestReader, ResponseReader
from meshproxy.http.head import BadMessage, FramingKind, HeadLimits, RequestHead, ResponseHead, TargetForm
from meshproxy.http.reply import REASONS
from meshproxy.http.writing import fields_text, request_bytes, response_bytes

if TYPE_CHECKING:
    from meshproxy.http.head import Field
    from meshproxy.wire.stream import Stream

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: ([0-9]{1,6})(?=\r|\Z)", re.IGNORECASE)
_LIMITS: Final = HeadLimits(head_bytes=8 * 1024, fields=40, target=1024)


class Unsound(Exception):
    """What came is no message, or too large a one: `status` is what its sender is answered; the text is a phrase."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `query` without its `?`."""

    method: bytes
    path: bytes
    query: bytes = b""
    body: bytes = b""
    more: tuple[Field, ...] = ()  # fields beyond the usual ones


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; `retry_after` in seconds, for whoever is to come back; `allow`: the methods done there."""

    status: int
    content_type: bytes
    body: bytes
    retry_after: int | None = None
    allow: bytes | None = None


async def read_request(stream: Stream, *, most: int) -> Request | None:
    """Read one request with a body of at most `most` bytes; None when nobody asks anything.

    Raises Unsound for what is to be refused, StreamBroken.
    """
    reader = RequestReader(_LIMITS)
    try:
        head = await _next(stream, reader)
        if head is None:
            return None
        if not isinstance(head, RequestHead):
            raise TypeError(f"a message that begins with {head!r}")
        if head.target.form is not TargetForm.ORIGIN:
            raise Unsound(400, "a target that is no path")
        if head.fields.expects_continue:
            raise Unsound(417, "100-continue is not done here")
        body = b"" if head.fields.framing.kind is FramingKind.NONE else await _body(stream, reader, most=most)
    except BadMessage as bad:
        raise Unsound(bad.status, bad.detail) from bad
    return Request(head.method, head.target.path, head.target.query or b"", body)


async def send_answer(stream: Stream, answer: Answer, *, to: bytes) -> None:
    """Send the answer to a request of the method `to`, the last word on the connection. Raises StreamBroken."""
    fields: list[Field] = [
        (b"Content-Type", answer.content_type),
        (b"Content-Length", b"%d" % len(answer.body)),
        (b"Cache-Control", b"no-store"),
        (b"Connection", b"close"),
    ]
    if answer.retry_after is not None:
        fields.append((b"Retry-After", b"%d" % answer.retry_after))
    if answer.allow is not None:
        fields.append((b"Allow", answer.allow))
    reason = REASONS.get(answer.status, b"")
    head = response_bytes(answer.status, reason, b"", fields_text(fields), count=len(fields))
    await stream.send(head if to == b"HEAD" else head + answer.body)


async def ask(stream: Stream, request: Request, *, host: str, most: int) -> Answer:
    """Send a request to `host` and return the answer, its body at most `most` bytes. Raises Unsound, StreamBroken."""
    target = request.path if not request.query else b"%b?%b" % (request.path, request.query)
    fields: list[Field] = [(b"Connection", b"close"), *request.more]
    if request.body:
        fields += [(b"Content-Type", JSON), (b"Content-Length", b"%d" % len(request.body))]
    head_bytes = request_bytes(
        request.method, target, host.encode("ascii"), b"", fields_text(fields), count=len(fields)
    )
    await stream.send(head_bytes + request.body)
    reader = ResponseReader(_LIMITS)
    reader.expect(request.method)
    try:
        head = await _next(stream, reader)
        while isinstance(head, ResponseHead) and head.status < 200:
            head = await _next(stream, reader)
        if not isinstance(head, ResponseHead):
            raise Unsound(502, "no answer came")
        body = b"" if head.framing.kind is FramingKind.NONE else await _body(stream, reader, most=most)
    except BadMessage as bad:
        raise Unsound(502, bad.detail) from bad
    return Answer(head.status, b"", body, _retry_after(head.carried))


def _retry_after(carried: bytes) -> int | None:
    """Return what Retry-After says in seconds (RFC 9110 section 10.2.3); a date is left alone."""
    found = _RETRY_AFTER.search(carried)
    return None if found is None else int(found[1])


async def _next(stream: Stream, reader: RequestReader | ResponseReader) -> RequestHead | ResponseHead | Piece | None:
    """What comes next, or None when the peer has ended before."""
    while True:
        event = reader.next()
        if event is not None:
            return event
        received = await stream.receive()
        if not received:
            if isinstance(reader, ResponseReader):
                reader.eof()
                return reader.next()
            if reader.buffered:
                raise Unsound(400, "the request was cut off")
            return None
        reader.feed(received)


async def _body(stream: Stream, reader: RequestReader | ResponseReader, *, most: int) -> bytes:
    body = bytearray()
    while True:
        piece = await _next(stream, reader)
        if not isinstance(piece, Piece):
            raise Unsound(400, "the message was cut off")
        body += piece.payload
        if len(body) > most:
            raise Unsound(413, f"a body of more than {most} bytes")
        if piece.last:
            return bytes(body)
