"""Descriptors kept in hand for who must be heard when none are left: a health check, whoever asks what is wrong.

When the process has as many as it may have, accept(2) fails for everybody. One that was kept is closed then, and the
very next accept takes its number.
"""

from __future__ import annotations

import contextlib
import os


class Spares:
    """So many descriptors that can be done without; `close` in the end."""

    def __init__(self, count: int) -> None:
        """Keep so many, or as many as there are."""
        self._count = count
        self._kept: list[int] = []
        self.restock()

    def __repr__(self) -> str:
        return f"<Spares {len(self._kept)}/{self._count}>"

    def give_up(self) -> bool:
        """Let go of one; returns whether there was one left."""
        if not self._kept:
            return False
        os.close(self._kept.pop())
        return True

    def restock(self) -> None:
        """Take back what was given up, as far as there are descriptors again."""
        with contextlib.suppress(OSError):
            while len(self._kept) < self._count:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Let go of all, for good."""
        self._count = 0
        while self.give_up():
            pass
