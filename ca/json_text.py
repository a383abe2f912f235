"""Reading JSON that somebody else wrote: whatever is wrong with it is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def read(content: bytes, kind: type[_T]) -> _T:
    """Return what the text says. Raises ValueError, with a phrase, for anything that is no JSON of this kind."""
    return read_by(msgspec.json.Decoder(kind), content)


def read_by(decoder: msgspec.json.Decoder[_T], content: bytes | str) -> _T:
    """Do as `read`, by a decoder that was made once: for whoever reads line after line.

    Text nested deeper than the stack is long would otherwise be a RecursionError, which nobody expects of a decoder.
    """
    try:
        return decoder.decode(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
