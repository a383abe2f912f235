"""A user's own text and values, shown back in a problem: short, escaped, and unable to forge a line."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]
"""Where a value stands in a document: `("inbound", 0, "forward")`."""

_MAX_SHOWN = 80  # characters
_MAX_PARTS_SHOWN = 16
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def quote(text: str) -> str:
    """Return user-written `text` between double quotes, escaped and cut, so that it can forge no line of output."""
    escaped = text[:_MAX_SHOWN].replace("\\", "\\\\").replace('"', '\\"')
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in escaped)
    return f'"{shown}"' if len(text) <= _MAX_SHOWN else f'"{shown}…"'


def describe(value: object) -> str:
    """Return a short phrase for a TOML value; containers are named, not shown, however deep or long they are."""
    match value:
        case str():
            return f"the string {quote(value)}"
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= 1 << 63:
            return "a number beyond 64 bits"  # int to str is bounded by Python itself, and nobody reads it
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return str(value)


def where(path: KeyPath) -> str:
    """Return a key path as people write it: `inbound[0].forward`; keys that are not bare are quoted."""
    words = ""
    for part in path[:_MAX_PARTS_SHOWN]:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            bare = len(part) <= _MAX_SHOWN and _BARE_KEY.fullmatch(part)
            words += ("." if words else "") + (part if bare else quote(part))
    return words
