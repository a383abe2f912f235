"""Messages out of a stream of bytes.

A reader is fed what came and asked for what it makes: a head, the pieces of its body if it has one, and the next
message's head. It holds what was fed and not yet asked for; whoever feeds it stops reading while `buffered` is not
wanted, and that is the bound on its memory. After one `BadMessage` nothing on the connection can be trusted, and every
further question raises it again.

What is fed is not copied where it need not be: bytes that nothing waits before are the buffer, and a portion that is
all body is handed on as it is. Only what must be pieced together is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from meshproxy.http.chunked import ChunkedDecoder
from meshproxy.http.guard import find_head_end, judge_start_line
from meshproxy.http.head import BadMessage, Field, FramingKind, HeadLimits, RequestHead, ResponseHead
from meshproxy.http.parse import read_request_head, read_response_head

if TYPE_CHECKING:
    from meshproxy.http.head import Framing

Part = bytes | memoryview

_Head = TypeVar("_Head", RequestHead, ResponseHead)


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a body, its transfer coding taken off: `first`, and behind it the `rest`, which were chunks.

    `last` when the message is complete with it: only then may it be empty. `trailers` came behind a chunked body. The
    parts may be views of what was fed, to be let go of soon.
    """

    first: Part
    last: bool = False
    trailers: tuple[Field, ...] = ()
    rest: tuple[Part, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes there are of it."""
        return len(self.first) + sum(map(len, self.rest))

    @property
    def payload(self) -> bytes:
        """All of it in one."""
        return b"".join((self.first, *self.rest))


# Bound once: to look a member up in its class takes ten times as long on Python 3.11.
_NONE: Final = FramingKind.NONE
_LENGTH: Final = FramingKind.LENGTH
_CHUNKED: Final = FramingKind.CHUNKED
_UNTIL_CLOSE: Final = FramingKind.UNTIL_CLOSE


class _Reader(ABC, Generic[_Head]):
    """What reading requests and reading responses have in common: the body, and the bytes that wait.

    `buffered` tells how many bytes were fed and not yet given out. They stand in `_buffer` from `_at` on: bytes that
    were fed in one piece, or a bytearray when they came in several.
    """

    __slots__ = (
        "_at",
        "_bad",
        "_buffer",
        "_chunked",
        "_deaf",
        "_ended",
        "_framing",
        "_left",
        "_limits",
        "_scanned",
        "_start_judged",
        "buffered",
    )

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first message; `limits` bound every head and trailer section."""
        self._limits = limits
        self._buffer: bytes | bytearray = b""
        self._at = 0
        self._scanned = 0  # up to where an incomplete head was looked at
        self._start_judged = False  # whether its start line was
        self._framing: Framing | None = None  # of the message whose body is being given out
        self._left = 0
        self._chunked: ChunkedDecoder | None = None
        self._deaf = False  # nothing that follows is of use
        self._ended = False  # by eof()
        self._bad: BadMessage | None = None
        self.buffered = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} buffered={self.buffered} body={self._framing} bad={self._bad}>"

    @property
    def mid_message(self) -> bool:
        """Whether a message has begun and not ended. Ask after `next` has returned None."""
        return self._framing is not None or self.buffered > 0

    def feed(self, data: bytes) -> None:
        """Take what came, in any portions."""
        if self._deaf:
            return
        self.buffered += len(data)
        if not self._buffer:
            self._buffer = data
            return
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(self._buffer[self._at :])
        else:
            del self._buffer[: self._at]
        self._buffer += data
        self._scanned -= self._at
        self._at = 0

    def begin(self, head: _Head, data: bytes, end: int) -> None:
        """Take `data`, which begins with a head that was recognised and ends at `end`: `feed` and `next` in one.

        Between two messages only, when nothing waits.
        """
        if len(data) > end:
            self._buffer, self._at, self.buffered = data, end, len(data) - end
        self._begin_message(head)

    def pass_by(self, size: int) -> bool:
        """Take that so many bytes of a body are passed on as they are, unseen by this reader.

        False, if it has to be fed with them: they are not all the body's, its end is among them, or its coding is to
        be looked at.
        """
        # Only a body of known length has any left, and only until its message ends.
        if size >= self._left or self.buffered or self._bad is not None:
            return False
        self._left -= size
        return True

    def take_rest(self) -> bytes:
        """Hand over what waits, behind a switch to another protocol; the reader is of no use after it."""
        return self._take(len(self._buffer))

    def next(self) -> _Head | Piece | None:
        """Return what comes next: a head, a piece of its body, or None while more bytes are needed.

        A body has a last piece; a message without one (`FramingKind.NONE`) is complete with its head. Raises
        BadMessage.
        """
        if self._bad is not None:
            raise self._bad
        try:
            return self._next_head() if self._framing is None else self._next_piece(self._framing)
        except BadMessage as bad:
            self._bad = bad
            raise

    @abstractmethod
    def _next_head(self) -> _Head | None:
        """Take the next head off the buffer, if it is complete."""

    @abstractmethod
    def _begin_message(self, head: _Head) -> None:
        """Take that the message of this head has begun."""

    def _take(self, end: int) -> bytes:
        """Take the bytes that wait before `end`: without copying them, where they are all there are."""
        buffer, at = self._buffer, self._at
        taken = buffer[at:end] if isinstance(buffer, bytes) else bytes(memoryview(buffer)[at:end])
        self._leave(end)
        return taken

    def _leave(self, end: int) -> None:
        """Take that the bytes that wait before `end` have been taken."""
        self.buffered -= end - self._at
        if self.buffered:
            self._at = end
        else:  # an empty reader holds no memory
            self._buffer, self._at = b"", 0

    def _take_head(self) -> bytes | None:
        """Take a complete head off the buffer; None while it is incomplete."""
        if not self.buffered:
            return None
        buffer, start = self._buffer, self._at
        end = find_head_end(buffer, start, self._scanned, self._limits)
        if end < 0:
            if not self._start_judged:
                self._start_judged = judge_start_line(buffer, start, self._scanned)
            self._scanned = len(buffer)
            return None
        self._scanned, self._start_judged = 0, False
        return self._take(end)

    def _begin_body(self, framing: Framing) -> None:
        kind = framing.kind
        if kind is _NONE:
            return
        self._framing = framing
        self._left = framing.length if kind is _LENGTH else 0
        self._chunked = ChunkedDecoder(self._limits) if kind is _CHUNKED else None

    def _next_piece(self, framing: Framing) -> Piece | None:
        if self._chunked is not None:
            return self._next_of_chunks(self._chunked)
        if framing.kind is _UNTIL_CLOSE:
            if not self.buffered and not self._ended:
                return None
            return Piece(self.take_rest(), self._ended and self._ends())
        if not self.buffered and self._left:
            return None
        payload = self._take(self._at + min(self._left, self.buffered))
        self._left -= len(payload)
        return Piece(payload, not self._left and self._ends())

    def _next_of_chunks(self, chunked: ChunkedDecoder) -> Piece | None:
        """Give out all chunks that are there as one piece: tiny chunks must not become tiny pieces."""
        pieces: list[Part] = []
        try:
            self._leave(chunked.take(self._buffer, self._at, pieces))
        except BadMessage as bad:
            # What came before the fault was sound; how the bytes were portioned must make no difference.
            if not pieces:
                raise
            self._bad = bad
        first = pieces[0] if pieces else b""
        if chunked.done:
            return Piece(first, self._ends(), chunked.trailers, tuple(pieces[1:]))
        return Piece(first, rest=tuple(pieces[1:])) if pieces else None

    def _ends(self) -> bool:
        """Take that the message is complete; returns True."""
        self._framing = self._chunked = None
        return True


class RequestReader(_Reader[RequestHead]):
    """Reads the requests of one connection.

    RFC 9112 section 9.6: behind a request that asks to close, what comes is not a request any more; it is dropped.
    """

    __slots__ = ("_last", "_skipped_line")

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first request."""
        super().__init__(limits)
        self._last = False
        self._skipped_line = False

    def take_whole(self, head: RequestHead) -> None:
        """Take a request that was recognised, and is complete with its head; nothing waited before it, nor behind."""
        self._skipped_line = False
        self._last = self._deaf = not head.fields.keep_alive

    def _next_head(self) -> RequestHead | None:
        # RFC 9112 section 2.2: an empty line before the request line is forgiven, for old clients send one behind a
        # body. Once: they send no more, and whoever does is not one of them.
        if self._buffer.startswith(b"\r", self._at):
            if self.buffered == 1:
                return None  # half a line end
            if self._skipped_line or not self._buffer.startswith(b"\r\n", self._at):
                raise BadMessage(400, "more than an empty line before the request line")
            self._take(self._at + 2)
            self._skipped_line = True
            return self._next_head()
        raw = self._take_head()
        if raw is None:
            return None
        head = read_request_head(raw, self._limits)
        self._begin_message(head)
        return head

    def _begin_message(self, head: RequestHead) -> None:
        self._skipped_line = False
        self._last = not head.fields.keep_alive
        self._begin_body(head.fields.framing)
        if self._last and self._framing is None:
            self._ends()

    def _ends(self) -> bool:
        self._framing = self._chunked = None
        if self._last:
            self._deaf = True
            self.take_rest()
        return True


class ResponseReader(_Reader[ResponseHead]):
    """Reads the responses of one connection, each after it was told which method it answers.

    Without `expect`, `next` gives nothing; bytes that came all the same stay `buffered`, and belong to nobody.
    """

    __slots__ = ("_method",)

    def __init__(self, limits: HeadLimits) -> None:
        """Stand before the first response."""
        super().__init__(limits)
        self._method: bytes | None = None

    def take_whole(self) -> None:
        """Take an expected answer that was recognised and came whole: nothing waited before it, nor behind."""
        self._method = None

    def expect(self, request_method: bytes) -> None:
        """Let one final response be read, with any interim ones before it: the answer to such a request."""
        if self._method is not None or self._framing is not None:
            raise RuntimeError("the response before this one has not been read")
        self._method = request_method

    def eof(self) -> None:
        """Take that nothing more will come; a close-delimited body ends with it, and `next` gives its last piece.

        Raises BadMessage when it cuts a message off. No byte of an expected response is no message: `next` gives None.
        Ask `next` until it returns None before.
        """
        self._ended = True
        if self.mid_message and not (self._framing is not None and self._framing.kind is _UNTIL_CLOSE):
            self._bad = BadMessage(502, "the stream ended in the middle of a response")
            raise self._bad

    def _next_head(self) -> ResponseHead | None:
        if self._method is None:
            return None
        raw = self._take_head()
        if raw is None:
            return None
        head = read_response_head(self._method, raw, self._limits)
        self._begin_message(head)
        return head

    def _begin_message(self, head: ResponseHead) -> None:
        if head.status >= 200:
            self._method = None
            self._begin_body(head.framing)
