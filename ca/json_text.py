"""Reading JSON that somebody else wrote: whatever is wrong with it is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def read(content: bytes, kind: type[_T]) -> _T:
    """Return what the text says. Raises ValueError, with a phrase, for anything that is no JSON of this kind.

    Text nested deeper than the stack is long would otherwise be a RecursionError, which nobody expects of a decoder.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
