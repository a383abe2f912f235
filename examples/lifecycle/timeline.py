"""How the demo looks: one line for each thing that happens, with when and to whom."""

from __future__ import annotations

import sys
import textwrap
from typing import Final

import trio

from meshproxy.cli.terminal import Tone, paint

_WIDTH: Final = 100
_START: Final = 16  # what stands before the words


class Timeline:
    """Prints as it happens; `quiet` keeps the lines for whoever asks afterwards."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began = trio.current_time()
        self.lines: list[tuple[float, str, str]] = []

    def __repr__(self) -> str:
        return f"<Timeline {len(self.lines)} lines>"

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return trio.current_time() - self._began

    def tell(self, who: str, words: str, tone: Tone | None = None) -> None:
        """Say what has happened to whom."""
        now = self.now
        self.lines.append((round(now, 1), who, words))
        if self._quiet:
            return
        first, *rest = textwrap.wrap(words, _WIDTH - _START, break_on_hyphens=False)
        print(f"{now:7.1f} s  {paint(f'{who:<5}', Tone.STRONG)} {first if tone is None else paint(first, tone)}")
        for line in rest:
            print(" " * _START + (line if tone is None else paint(line, tone)))
        sys.stdout.flush()

    def head(self, words: str) -> None:
        """Say what comes next."""
        if not self._quiet:
            print(paint(words, Tone.STRONG), flush=True)
