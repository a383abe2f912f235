"""How the demo looks: three columns that fit the terminal, and below them what the sidecars said."""

from __future__ import annotations

import shutil
import sys
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from examples.shop.stage import TRUST_DOMAIN
from meshproxy.cli.terminal import Tone, paint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.shop.processes import LogLine
    from examples.shop.promise import Evidence, Promise, Seen

_WIDEST: Final = 100
_NARROWEST: Final = 60
_SHARES: Final = (0.31, 0.21)  # of what the marks and gaps leave, for tried and expected; seen takes the rest
_GAP: Final = "  "
_PLAIN: Final = str.maketrans({"✓": "+", "✗": "X", "→": ">"})  # for a terminal without UTF-8
_MARK: Final = 6  # " 1 ✓  "


class Table:
    """Prints one row at a time; colour only on a terminal."""

    def __init__(self) -> None:
        width = shutil.get_terminal_size((_WIDEST, 24)).columns
        self.width = max(_NARROWEST, min(_WIDEST, width))
        room = self.width - _MARK - 2 * len(_GAP)
        tried, expected = (int(share * room) for share in _SHARES)
        self._columns = (tried, expected, room - tried - expected)
        encoding = (sys.stdout.encoding or "ascii").lower()
        self._announced = False
        self._is_utf8 = encoding.replace("-", "") == "utf8"

    def __repr__(self) -> str:
        return f"<Table {self._columns}>"

    def announce(self, what: str) -> None:
        """Say what is going on, on a terminal only, where the next line takes its place."""
        if sys.stdout.isatty():
            print(f"\r\x1b[K{what}", end="", flush=True)
            self._announced = True

    def head(self) -> None:
        """Print what this is, and the headings."""
        self.say(paint("meshproxy, tried on a small shop: web → orders → ledger, each with its sidecar", Tone.STRONG))
        cells = (f"{title:<{width}}" for title, width in zip(("tried", "expected", "seen"), self._columns, strict=True))
        self.say(paint(" " * _MARK + _GAP.join(cells).rstrip(), Tone.FAINT))

    def group(self, title: str) -> None:
        """Print what the next rows are about."""
        self.say(paint(title, Tone.STRONG))

    def row(self, number: int, promise: Promise, seen: Seen) -> None:
        """Print one promise and what came of it."""
        mark = paint("✓", Tone.GOOD) if seen.kept else paint("✗", Tone.BAD)
        cells = [
            textwrap.wrap(self._in_its_letters(text), width, break_on_hyphens=False)
            for text, width in zip((promise.tried, promise.expected, seen.words), self._columns, strict=True)
        ]
        for index, parts in enumerate(zip_longest(*cells, fillvalue="")):
            start = f"{number:2} {mark}  " if index == 0 else " " * _MARK
            padded = (f"{part:<{width}}" for part, width in zip(parts, self._columns, strict=True))
            self.say(start + _GAP.join(padded).rstrip())

    def explain(self, rows: Sequence[tuple[int, Evidence]]) -> None:
        """Print the essence of what a sidecar logged, under the number of the row it explains."""
        name_width = max(len(evidence.sidecar) for _, evidence in rows)
        room = self.width - _MARK - name_width - len(_GAP)
        for number, evidence in rows:
            start = f"{number:2}    {paint(f'{evidence.sidecar:<{name_width}}', Tone.STRONG)}"
            for text in essence(evidence.line):
                for part in textwrap.wrap(text, room, break_on_hyphens=False):
                    self.say(f"{start}{_GAP}{part}")
                    start = " " * (_MARK + name_width)

    def paragraph(self, text: str, *, title: str = "") -> None:
        """Print a text as wide as the table; with a title, beside it."""
        lines = textwrap.wrap(self._in_its_letters(text), self.width - len(title), break_on_hyphens=False)
        for index, line in enumerate(lines):
            self.say((title if index == 0 else " " * len(title)) + line)

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(("\r\x1b[K" if self._announced else "") + self._in_its_letters(text), flush=True)
        self._announced = False

    def _in_its_letters(self, text: str) -> str:
        return text if self._is_utf8 else text.translate(_PLAIN)


def essence(line: LogLine) -> tuple[str, ...]:
    """What a log line says to a person: who, why, by which file, and what came nearest; identities in short form."""
    return tuple(text.replace(f"spiffe://{TRUST_DOMAIN}/", "/") for text in _said(line))


def _said(line: LogLine) -> tuple[str, ...]:
    event = line["event"]
    if event in {"denied", "would_deny"}:
        asked = " ".join(filter(None, (line["caller"], line["method"], line["path"])))
        why = f"({line['reason']}) by {line['policy']}, generation {line['generation']}"
        return f"{'denied' if event == 'denied' else 'would deny'} {asked} {why}", f"nearest: {line['nearest_rule']}"
    if event == "handshake_failed":
        return ()  # the row has told: the alert is all there is to it
    if event == "reload_failed":
        return (line["error"],)
    if event == "upstream_failed":
        return (f"{line['phase']}: {line['detail']}",)
    if event == "request":
        return (f"{line['method']} {line['path']}, {line['status']}, {line['failure']}: {line['detail']}",)
    return (f"{line['end']}: {line['detail']}",)
