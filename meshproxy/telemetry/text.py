"""Text that came from a peer, made safe to print: it can neither forge a line nor steer a terminal."""

from __future__ import annotations

_LONGEST = 512


def printable(text: str) -> str:
    r"""Return `text` with everything unprintable escaped and cut to 512 characters.

    Control characters, line and paragraph separators, bidirectional overrides and lone surrogates become `\\xNN` or
    `\\uNNNN`; a cut is marked by an ellipsis.
    """
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
