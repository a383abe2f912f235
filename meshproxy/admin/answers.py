"""What an admin path may answer: a page, or a stream; and how it is told what was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from meshproxy.admin.questions import Query

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its status code, media type, body, and header fields beyond the usual ones."""

    status: int
    content_type: str
    body: bytes
    more_headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of status 200 that comes in parts: `pour` sends them. `is_endless`: until who asked is gone."""

    content_type: str
    pour: Callable[[Send], Awaitable[None]]
    is_endless: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks: the named values, and the fields of the request by their lower-case names."""

    query: Query
    fields: dict[bytes, bytes]


Answer = Page | Stream
View = Callable[[], Answer | Awaitable[Answer]]  # at once, or asked of others first
Action = Callable[[], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A view that looks at what is asked. Raises BadQuestion for what makes no sense."""

    answer: Callable[[Asked], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Order:
    """An action that looks at what is asked. Raises BadQuestion for what makes no sense."""

    act: Callable[[Asked], Awaitable[Page]]


def negotiated(of: Callable[[bytes], Answer | Awaitable[Answer]]) -> Inquiry:
    """Return a view in several media types; `of` is given the Accept field (RFC 9110 section 12.5.1), or nothing."""
    return Inquiry(lambda asked: of(asked.fields.get(b"accept", b"")))


def json_page(value: object, status: int = 200) -> Page:
    """Return a page of JSON."""
    return Page(status, "application/json", msgspec.json.encode(value) + b"\n")


def text_page(status: int, text: str, *more_headers: tuple[bytes, bytes]) -> Page:
    """Return a page of plain text: a sentence for people."""
    return Page(status, "text/plain; charset=utf-8", text.encode(), more_headers)
