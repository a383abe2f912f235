"""JSON that somebody else wrote, read into a type: one exception for all that can be wrong with it.

msgspec says `DecodeError` to what is no JSON and to what is another type; but bytes that are no UTF-8 are a
`UnicodeDecodeError` to it, and brackets in a thousand brackets a `RecursionError`, also where nobody asked for what
they hold. Both are easily sent, and easily forgotten. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def decode(content: bytes | str, kind: type[T]) -> T:
    """Read a document as a value of `kind`. Raises msgspec.DecodeError."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise _named(error) from None


def decode_by(read: Callable[[bytes | str], T], content: bytes | str) -> T:
    """As `decode`, by the `decode` of a decoder that was made before."""
    try:
        return read(content)
    except (UnicodeDecodeError, RecursionError) as error:
        raise _named(error) from None


def _named(error: UnicodeDecodeError | RecursionError) -> msgspec.DecodeError:
    deep = isinstance(error, RecursionError)
    return msgspec.DecodeError("JSON is nested too deeply" if deep else "JSON holds bytes that are not UTF-8")
