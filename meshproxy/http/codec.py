"""Messages out of a stream of bytes, and messages into bytes.

A reader is fed what came and asked for what it makes: a head, pieces of body, the end, and the next message's head. It
holds what was fed and not yet asked for; whoever feeds it stops reading while `buffered` is not wanted, and that is the
bound on its memory. After one `BadMessage` nothing on the connection can be trusted, and every further question raises
it again.

The writers say HTTP/1.1 always (RFC 9112 section 2.3) and refuse what would not be read back as it was meant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from meshproxy.http.chunked import ChunkedDecoder
from meshproxy.http.guard import find_head_end, judge_start_line
from meshproxy.http.head import BadMessage, FramingKind, HeadLimits, RequestHead, ResponseHead
from meshproxy.http.parse import read_request_head, read_response_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.http.head import Field, Framing

_Head = TypeVar("_Head", RequestHead, ResponseHead)


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a body, its transfer coding taken off; never empty."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The message is complete; `trailers` came behind a chunked body."""

    trailers: tuple[Field, ...] = ()


_END: Final = End()


class Unwritable(Exception):
    """A bug of ours: a head was to be written that would not be read back as it was meant."""


class _Reader(ABC, Generic[_Head]):
    """What reading requests and reading responses have in common: the body, and the bytes that wait."""

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first message; `limits` bound every head and trailer section."""
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # how much of an incomplete head was looked at
        self._start_judged = False  # whether its start line was
        self._framing: Framing | None = None  # of the message whose head was given out and whose End was not
        self._left = 0
        self._chunked: ChunkedDecoder | None = None
        self._ended = False  # by eof()
        self._bad: BadMessage | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} buffered={self.buffered} body={self._framing} bad={self._bad}>"

    @property
    def buffered(self) -> int:
        """How many bytes were fed and not yet given out."""
        return len(self._buffer)

    @property
    def mid_message(self) -> bool:
        """Whether a message has begun and not ended. Ask after `next` has returned None."""
        return self._framing is not None or bool(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what came, in any portions."""
        self._buffer += data

    def take_rest(self) -> bytes:
        """Hand over what waits, behind a switch to another protocol; the reader is of no use after it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def next(self) -> _Head | Data | End | None:
        """Return what comes next: a head, body, its End, or None while more bytes are needed.

        Every message has an End, also without a body, but for interim responses. Raises BadMessage.
        """
        if self._bad is not None:
            raise self._bad
        try:
            return self._next_head() if self._framing is None else self._next_of_body(self._framing)
        except BadMessage as bad:
            self._bad = bad
            raise

    @abstractmethod
    def _next_head(self) -> _Head | None:
        """Take the next head off the buffer, if it is complete."""

    def _take_head(self) -> bytes | None:
        """Take a complete head off the buffer; None while it is incomplete."""
        if not self._buffer:
            return None
        end = find_head_end(self._buffer, self._scanned, self._limits)
        if end < 0:
            if not self._start_judged:
                self._start_judged = judge_start_line(self._buffer, self._scanned)
            self._scanned = len(self._buffer)
            return None
        raw = bytes(memoryview(self._buffer)[:end])
        del self._buffer[:end]
        self._scanned, self._start_judged = 0, False
        return raw

    def _begin_body(self, framing: Framing) -> None:
        self._framing = framing
        self._left = framing.length if framing.kind is FramingKind.LENGTH else 0
        self._chunked = ChunkedDecoder(self._limits) if framing.kind is FramingKind.CHUNKED else None

    def _next_of_body(self, framing: Framing) -> Data | End | None:
        if self._chunked is not None:
            return self._next_of_chunks(self._chunked)
        if framing.kind is FramingKind.UNTIL_CLOSE:
            if self._buffer:
                return Data(self.take_rest())
            return self._end(_END) if self._ended else None
        if not self._left:
            return self._end(_END)
        if not self._buffer:
            return None
        payload = bytes(memoryview(self._buffer)[: self._left])
        del self._buffer[: len(payload)]
        self._left -= len(payload)
        return Data(payload)

    def _next_of_chunks(self, chunked: ChunkedDecoder) -> Data | End | None:
        """Give out all chunks that are there as one piece: tiny chunks must not become tiny pieces."""
        pieces = []
        try:
            while (piece := chunked.step(self._buffer)) is not None:
                if piece:
                    pieces.append(piece)
        except BadMessage as bad:
            # What came before the fault was sound; how the bytes were portioned must make no difference.
            if not pieces:
                raise
            self._bad = bad
        if pieces:
            return Data(b"".join(pieces))
        return self._end(End(chunked.trailers)) if chunked.done else None

    def _end(self, end: End) -> End:
        self._framing = self._chunked = None
        return end


class RequestReader(_Reader[RequestHead]):
    """Reads the requests of one connection.

    RFC 9112 section 9.6: behind a request that asks to close, what comes is not a request any more; it is dropped.
    """

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first request."""
        super().__init__(limits)
        self._last = False
        self._skipped_line = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what came, in any portions."""
        super().feed(data)
        self._drop_behind_last()

    def _next_head(self) -> RequestHead | None:
        # RFC 9112 section 2.2: an empty line before the request line is forgiven, for old clients send one behind a
        # body. Once: they send no more, and whoever does is not one of them.
        if self._buffer.startswith(b"\r"):
            if len(self._buffer) == 1:
                return None  # half a line end
            if self._skipped_line or not self._buffer.startswith(b"\r\n"):
                raise BadMessage(400, "more than an empty line before the request line")
            del self._buffer[:2]
            self._skipped_line = True
            return self._next_head()
        raw = self._take_head()
        if raw is None:
            return None
        head = read_request_head(raw, self._limits)
        self._skipped_line = False
        self._last = not head.keep_alive
        self._begin_body(head.framing)
        return head

    def _end(self, end: End) -> End:
        super()._end(end)
        self._drop_behind_last()
        return end

    def _drop_behind_last(self) -> None:
        if self._last and self._framing is None:
            self._buffer.clear()


class ResponseReader(_Reader[ResponseHead]):
    """Reads the responses of one connection, each after it was told which method it answers.

    Without `expect`, `next` gives nothing; bytes that came all the same stay `buffered`, and belong to nobody.
    """

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first response."""
        super().__init__(limits)
        self._method: bytes | None = None

    def expect(self, request_method: bytes) -> None:
        """Let one final response be read, with any interim ones before it: the answer to such a request."""
        if self._method is not None or self._framing is not None:
            raise RuntimeError("the response before this one has not been read")
        self._method = request_method

    def eof(self) -> None:
        """Take that nothing more will come; a close-delimited body ends with it, and `next` gives its End.

        Raises BadMessage when it cuts a message off. No byte of an expected response is no message: `next` gives None.
        Ask `next` until it returns None before.
        """
        self._ended = True
        if self.mid_message and not (self._framing is not None and self._framing.kind is FramingKind.UNTIL_CLOSE):
            self._bad = BadMessage(502, "the stream ended in the middle of a response")
            raise self._bad

    def _next_head(self) -> ResponseHead | None:
        if self._method is None:
            return None
        raw = self._take_head()
        if raw is None:
            return None
        head = read_response_head(self._method, raw, self._limits)
        if head.status >= 200:
            self._method = None
            self._begin_body(head.framing)
        return head


def request_bytes(method: bytes, target: bytes, fields: Iterable[Field]) -> bytes:
    """Return a request head (RFC 9112 section 3); raises Unwritable."""
    return _head_bytes(b"%b %b HTTP/1.1" % (method, target), 2, fields)


def response_bytes(status: int, reason: bytes, fields: Iterable[Field]) -> bytes:
    """Return a response head (RFC 9112 section 4); raises Unwritable."""
    return _head_bytes(b"HTTP/1.1 %d %b" % (status, reason), None, fields)


def chunk(data: bytes) -> bytes:
    """Return one chunk (RFC 9112 section 7.1); `data` is not empty, for an empty chunk would be the last."""
    if not data:
        raise Unwritable("an empty chunk")
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[Field] = ()) -> bytes:
    """Return the last chunk and the trailer section (RFC 9112 section 7.1.2); raises Unwritable."""
    return _head_bytes(b"0", None, trailers)


def _head_bytes(start: bytes, spaces: int | None, fields: Iterable[Field]) -> bytes:
    lines = [start]
    lines += [b"%b: %b" % field for field in fields]
    lines += (b"", b"")
    text = b"\r\n".join(lines)
    ends = len(lines) - 1
    # Everything was judged on its way in; this is what holds if a judge is wrong.
    if (
        text.count(b"\r") != ends
        or text.count(b"\n") != ends
        or b"\0" in text
        or (spaces is not None and start.count(b" ") != spaces)
    ):
        raise Unwritable(f"control bytes or spaces in a head that begins {start[:60]!r}")
    return text
