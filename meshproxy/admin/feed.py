"""The stream of events: one ring of what was news, and whoever listens reads from it at his own place.

Nothing is kept for a listener but where he is, so a slow one costs nothing: when the ring has gone round he is dropped,
and may come again with the number he had last (`Last-Event-ID`; HTML, Server-sent events, section 9.2).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.admin.answers import Page, Stream, text_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.admin.answers import Asked, Send

MOST_LISTENERS: Final = 32
_MOST_EVENTS: Final = 600
_MOST_BYTES: Final = 1 << 20
_AFTERGLOW: Final = 60.0  # seconds after the last listener has gone in which what happens is still kept for him
_RETRY: Final = b"retry: 2000\n\n"  # milliseconds after which a browser tries again


class FellBehind(Exception):
    """A listener cannot be told everything: he reads more slowly than things happen, or there is no room for him."""


class Feed:
    """The last events: at most 600, and at most one megabyte of them, for at most `most_listeners`.

    `now` (seconds since 1970) is what numbers begin with, in milliseconds: they go on rising after a restart.
    """

    def __init__(self, now: float, most_listeners: int = MOST_LISTENERS) -> None:
        self._events: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._last = int(now * 1000)
        self._most_listeners = most_listeners
        self._listeners = 0
        self._heard_until = 0.0  # by trio's clock
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Feed at={self._last} events={len(self._events)} listeners={self._listeners}>"

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return self._listeners

    @property
    def is_full(self) -> bool:
        """Whether nobody more may listen."""
        return self._listeners >= self._most_listeners

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens, or may be back in a moment."""
        return self._listeners > 0 or trio.current_time() < self._heard_until

    def tell(self, kind: str, data: bytes) -> None:
        """Add an event; `data` is one line."""
        self._last += 1
        frame = b"id: %d\nevent: %b\ndata: %b\n\n" % (self._last, kind.encode("ascii"), data)
        self._events.append((self._last, frame))
        self._bytes += len(frame)
        while len(self._events) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._events.popleft()[1])
        self._news.set()
        self._news = trio.Event()

    def pass_over(self) -> None:
        """Say that something happened which nobody was there to hear: what is kept does not lead up to now any more."""
        self._last += 1
        self._events.clear()
        self._bytes = 0

    async def pour(self, send: Send, last_seen: int | None, greeting: Callable[[], bytes]) -> None:
        """Send what happens from now on, or after `last_seen`, until `send` fails; raises FellBehind.

        It begins with an event `state` of what `greeting` says, and, if something was missed that is gone, with `gap`.
        """
        if self.is_full:  # somebody took the place since he was let in
            raise FellBehind
        self._listeners += 1
        try:
            at = self._last if last_seen is None else last_seen
            missed = not self._reaches(at)
            first = b"event: state\ndata: %b\n\n" % greeting()
            if missed:
                first += b'event: gap\ndata: {"after":%d}\n\n' % at
                at = self._last
            await send(_RETRY + first)
            while True:
                news = self._news
                if not self._reaches(at):
                    raise FellBehind
                frames = [frame for number, frame in self._events if number > at]
                at = self._last
                if frames:
                    await send(b"".join(frames))
                else:
                    await news.wait()
        finally:
            self._listeners -= 1
            self._heard_until = trio.current_time() + _AFTERGLOW

    def _reaches(self, at: int) -> bool:
        """Whether everything after the event numbered `at` is still here."""
        oldest = self._events[0][0] if self._events else self._last + 1
        return oldest - 1 <= at <= self._last


def listen(feed: Feed, asked: Asked, greeting: Callable[[], bytes]) -> Stream | Page:
    """Return the stream of events for who asks, from now on or after what he saw last; 503 where there is no room."""
    asked.query.done()
    if feed.is_full:
        return text_page(503, f"{feed.listeners} listen already; try again later\n", (b"retry-after", b"10"))
    seen = asked.fields.get(b"last-event-id", b"")
    # Not ours, or from before a restart: then it is as if he came for the first time.
    last = int(seen) if seen.isdigit() and len(seen) < 16 else None

    async def pour(send: Send) -> None:
        await feed.pour(send, last, greeting)

    return Stream("text/event-stream; charset=utf-8", pour, is_endless=True)
