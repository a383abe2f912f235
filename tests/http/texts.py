"""Heads and chunks as text, and what a reader makes of them, for tests that look at what is written, or write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.http.codec import Piece
from meshproxy.http.head import FramingKind, RequestHead
from meshproxy.http.writing import chunk_start

if TYPE_CHECKING:
    from meshproxy.http.head import Field, ResponseHead


def fields_in(text: bytes) -> list[Field]:
    """The fields of a written head, or of the text that a head carries; a simple oracle, for texts that were judged."""
    fields = []
    for line in text.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b": ")
        assert bool(colon) == bool(line)
        if line:
            fields.append((name, value))
    return fields


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return chunk_start(len(data)) + data + b"\r\n"


def is_complete_with(event: RequestHead | ResponseHead | Piece) -> bool:
    """Whether a message is complete with what its reader has just given out."""
    if isinstance(event, Piece):
        return event.last
    if isinstance(event, RequestHead):
        return event.fields.framing.kind is FramingKind.NONE
    return event.framing.kind is FramingKind.NONE and event.status >= 200
