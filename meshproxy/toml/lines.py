"""Where each key of a TOML text is written.

tomllib tells no lines for the values it read. `key_offsets` walks the same text once more; because tomllib has
accepted it, this walk may skip over values instead of judging them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from meshproxy.toml.words import KeyPath

_MAX_NOTED_DEPTH = 16  # key parts; deeper keys answer with the line of their ancestor, so `a.a.a…` costs no memory

# The lexemes of TOML 1.0, as far as walking over valid text needs them. Possessive, so that a string of megabytes is
# walked without a backtracking stack of megabytes.
_GAP = re.compile(r"(?:[ \t\n]++|#[^\n]*+)*")
_KEY_PART = re.compile(
    r"""[ \t]*+(?:"(?P<basic>(?:[^"\\\n]++|\\.)*)"|'(?P<literal>[^'\n]*+)'|(?P<bare>[A-Za-z0-9_-]++))[ \t]*+""",
)
_SCALAR = re.compile(
    r'''"""(?:[^"\\]++|\\[\s\S]|"(?!""))*""""{0,2}'''  # up to two quotes may stand before the closing three
    r"""|'{3}(?:[^']++|'(?!''))*'{3}'{0,2}"""
    r"""|"(?:[^"\\\n]++|\\.)*"|'[^'\n]*+'"""
    r"""|[^,\]}#\n"'\[{]++""",  # numbers, booleans, dates (which may hold a blank)
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def key_offsets(text: str) -> dict[KeyPath, int]:
    """Return the offset at which each key path, and each array item, of `text` is first written.

    `text` must be TOML 1.0 that tomllib accepts, with line feeds as its only line ends.
    """
    return _Scanner(text).walk()


class _Scanner:
    """Walks text that tomllib accepted and notes at which offset each key path, and each array item, is written."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets: dict[KeyPath, int] = {}
        self._tables_seen: dict[KeyPath, int] = {}  # per array of tables, how many `[[...]]` headers so far

    def walk(self) -> dict[KeyPath, int]:
        """Return the offset of every key path; the first mention wins."""
        table: KeyPath = ()
        at = self._past_gap(0)
        while at < len(self._text):
            if self._text[at] == "[":
                table, at = self._header(at)
            else:
                path, after = self._key(table, at)
                at = self._past_value(path, after)
            at = self._past_gap(at)
        return self._offsets

    def _past_gap(self, at: int) -> int:
        return _end(_GAP.match(self._text, at))

    def _note(self, path: KeyPath, at: int) -> KeyPath:
        if len(path) <= _MAX_NOTED_DEPTH:
            self._offsets.setdefault(path, at)
        return path

    def _key_parts(self, at: int) -> tuple[list[str], int]:
        """Read `a."b c".d`; returns the parts and the offset of what follows (`=` or `]`)."""
        parts: list[str] = []
        while True:
            match = _KEY_PART.match(self._text, at)
            at = _end(match)
            parts.append(_unquoted(cast("re.Match[str]", match)))
            if self._text[at] != ".":
                return parts, at
            at += 1

    def _key(self, table: KeyPath, at: int) -> tuple[KeyPath, int]:
        """Note a dotted key of `table`; returns its path and the offset of its value."""
        parts, after = self._key_parts(at)
        path = table
        for part in parts:
            path = self._note((*path, part), at)
        return path, self._past_gap(after + len("="))

    def _header(self, at: int) -> tuple[KeyPath, int]:
        """Note `[a.b]` or `[[a.b]]`; returns the path of the table it opens and the offset behind it."""
        brackets = 2 if self._text.startswith("[[", at) else 1
        (*outer, last), after = self._key_parts(at + brackets)
        path: KeyPath = ()
        for part in outer:
            path = self._note((*path, part), at)
            if path in self._tables_seen:  # `[a.b]` below `[[a]]` belongs to the latest table of `a`
                path = (*path, self._tables_seen[path] - 1)
        path = self._note((*path, last), at)
        if brackets == len("[["):
            index = self._tables_seen.get(path, 0)
            self._tables_seen[path] = index + 1
            path = self._note((*path, index), at)
        return path, after + brackets

    def _past_value(self, path: KeyPath, at: int) -> int:
        """Walk over the value at `path`, noting what it holds; its own stack, for nesting is the writer's choice."""
        holders: list[
            tuple[KeyPath, int | None]
        ] = []  # open arrays with their next index, open inline tables with None
        while True:
            opening = self._text[at]
            if opening in "[{":
                holders.append((path, 0 if opening == "[" else None))
                at += 1
            else:
                at = _end(_SCALAR.match(self._text, at))
            while holders:
                at = self._past_gap(at)
                if self._text[at] in "]}":
                    holders.pop()
                elif self._text[at] != ",":
                    break  # the next item begins here
                at += 1
            if not holders:
                return at
            holder, index = holders[-1]
            if index is None:
                path, at = self._key(holder, at)
            else:
                path = self._note((*holder, index), at)
                holders[-1] = (holder, index + 1)


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "tomllib accepted this text, so the lexemes must"
    return match.end()


def _unquoted(part: re.Match[str]) -> str:
    if part["basic"] is None:
        return cast("str", part["literal"] if part["bare"] is None else part["bare"])
    return _ESCAPE.sub(
        lambda escape: _ESCAPED.get(escape[3], escape[3]) if escape[3] else chr(int(escape[1] or escape[2], 16)),
        part["basic"],
    )
