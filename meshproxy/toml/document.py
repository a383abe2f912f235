"""The bytes of a TOML file, parsed; and the line of every key path in it."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import TYPE_CHECKING

from meshproxy.errors import FaultyInput, Problem
from meshproxy.toml.lines import key_offsets
from meshproxy.toml.words import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.toml.words import KeyPath

MAX_BYTES = 16 << 20  # ten times a file of 10,000 rules

_MOST_DIGITS = 4300  # that Python reads; it refuses more for the time that would take
_MAX_SHOWN = 120  # characters of tomllib's own message; it may quote keys of any length
_SYNTAX_PLACE = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)\Z")


class TomlDocument:
    """A parsed TOML file: its name as the user knows it, its data, and the line of each key path."""

    __slots__ = ("_newlines", "_offsets", "_text", "data", "file")

    def __init__(self, text: str, *, file: str, data: Mapping[str, object]) -> None:
        """Take the text (with line feeds as its only line ends) and what tomllib read from it."""
        self.file = file
        self.data = data
        self._text = text
        self._newlines: list[int] | None = None
        self._offsets: dict[KeyPath, int] = {}

    def __repr__(self) -> str:
        return f"<TomlDocument {self.file}, top keys {', '.join(map(quote, self.data)) or 'none'}>"

    def line_of(self, path: KeyPath) -> int:
        """Return the line (from 1) where `path` is first written; of its nearest written ancestor when it is not."""
        if self._newlines is None:
            self._newlines = [match.start() for match in re.finditer("\n", self._text)]
            self._offsets = key_offsets(self._text)
        while path and path not in self._offsets:
            path = path[:-1]
        return bisect_left(self._newlines, self._offsets.get(path, 0)) + 1


def parse_toml(content: bytes, *, file: str) -> TomlDocument:
    """Parse the bytes of the TOML 1.0 file the user knows as `file`.

    Raises FaultyInput with one problem: too long, not UTF-8, a NUL, a byte order mark, nested too deeply, or the first
    syntax error (tomllib stops there).
    """
    if len(content) > MAX_BYTES:
        raise _refusal(file, f"more than {MAX_BYTES >> 20} MiB", "a smaller file", "Check that this is the right file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(file, "bytes that are not UTF-8", "UTF-8 text", "Save the file as UTF-8", line) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _refusal(file, "a NUL byte", "UTF-8 text", "Save the file as plain UTF-8 text", line)
    if text.startswith("\ufeff"):
        remedy = "Save the file as UTF-8 without a byte order mark"
        raise _refusal(file, "a byte order mark", "TOML from the first byte on", remedy, 1)
    text = text.replace("\r\n", "\n")  # as tomllib does; a line end is one character from here on
    try:
        data = tomllib.loads(text)
    except RecursionError:
        remedy = "Write the value with fewer brackets"
        raise _refusal(file, "arrays or tables nested too deeply", "a few levels", remedy) from None
    except ValueError as error:  # TOMLDecodeError is one; int() of more than 4300 digits is another
        if not isinstance(error, tomllib.TOMLDecodeError):
            found = f"a number of more than {_MOST_DIGITS:,} digits"
            raise _refusal(file, found, "a number that means something", "Write a shorter number") from None
        place = _SYNTAX_PLACE.search(str(error))
        at_line = None if place is None else int(place[1] or text.rstrip("\n").count("\n") + 1)
        message = _SYNTAX_PLACE.sub("", str(error))
        found = f"a syntax error ({message[:1].lower()}{message[1:_MAX_SHOWN]})"
        raise _refusal(file, found, "TOML 1.0", "Correct the syntax at or just before this line", at_line) from None
    return TomlDocument(text, file=file, data=data)


def _refusal(file: str, found: str, expected: str, remedy: str, line: int | None = None) -> FaultyInput:
    return FaultyInput([Problem(file, found, expected, remedy, line)])
