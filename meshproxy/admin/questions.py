"""What is asked behind the `?` of an admin path: a few named values, read strictly; pure.

What is misspelt is refused with a sentence: an answer to another question than the one that was meant is worse.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 2048  # bytes of a query
_MOST: Final = 16  # values in it
_LATEST: Final = 1e11  # seconds since 1970 that somebody may mean: some way beyond the year 5000
_ESCAPES: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_LOOSE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadQuestion(ValueError):
    """What was asked makes no sense; the text is a sentence for people, without a full stop."""


class Query:
    """The named values of one request. Take each, then say `done`: what nobody took was misspelt."""

    def __init__(self, raw: bytes = b"") -> None:
        """Read what stands behind the `?`; raises BadQuestion."""
        if len(raw) > _LONGEST:
            raise BadQuestion(f"the query has {len(raw)} bytes; at most {_LONGEST} are read")
        try:
            text = raw.decode("ascii")
        except UnicodeDecodeError:
            raise BadQuestion("the query has bytes that are not ASCII; write them as %XX") from None
        pairs = [pair.partition("=") for pair in text.split("&") if pair]
        if len(pairs) > _MOST:
            raise BadQuestion(f"the query has {len(pairs)} values; at most {_MOST} are read")
        self._values: dict[str, str] = {}
        for name, _, value in pairs:
            if _decoded(name) in self._values:
                raise BadQuestion(f"{_decoded(name)!a} is said twice")
            self._values[_decoded(name)] = _decoded(value)
        self._taken: list[str] = []

    def __repr__(self) -> str:
        return f"<Query {self._values!r}>"

    def text(self, name: str) -> str | None:
        """Take a text; None: it is not there."""
        self._taken.append(name)
        return self._values.get(name)

    def word(self, name: str, words: Sequence[str], default: str) -> str:
        """Take one of `words`."""
        value = self.text(name)
        if value is None:
            return default
        if value not in words:
            raise BadQuestion(f"{name} is {value!a}; expected one of: {' '.join(words)}")
        return value

    def number(self, name: str, default: float | None, *, least: float, most: float) -> float | None:
        """Take a number between two, both included."""
        value = self.text(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise BadQuestion(f"{name} is {value!a}; expected a number from {least:.15g} to {most:.15g}")
        return number

    def moment(self, name: str, default: float | None = None) -> float | None:
        """Take a time in seconds since 1970."""
        return self.number(name, default, least=0, most=_LATEST)

    def flag(self, name: str) -> bool:
        """Take `1`, `0`, or nothing, which means 0."""
        return self.word(name, ("0", "1"), "0") == "1"

    def done(self) -> None:
        """Refuse what was not taken."""
        unknown = [name for name in self._values if name not in self._taken]
        if unknown:
            known = " ".join(self._taken) or "nothing"
            raise BadQuestion(f"{unknown[0]!a} means nothing here; what may be asked: {known}")


def _decoded(text: str) -> str:
    """Undo `+` and percent-encoding, as the forms of browsers write them (WHATWG URL, urlencoded parsing)."""
    if _LOOSE.search(text):
        raise BadQuestion(f"{text!a} has a % that begins no escape")
    try:
        return _ESCAPES.sub(lambda found: chr(int(found[1], 16)), text.replace("+", " ")).encode("latin-1").decode()
    except UnicodeDecodeError:
        raise BadQuestion(f"{text!a} is not UTF-8") from None
