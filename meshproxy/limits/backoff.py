"""How long to wait before trying again what keeps failing."""

from __future__ import annotations


class Backoff:
    """Pauses from `first` on, each twice the one before, up to `most`; anew after `forgiven` of success. Seconds."""

    def __init__(self, *, first: float, most: float, forgiven: float) -> None:
        self._first = first
        self._most = most
        self._forgiven = forgiven
        self._next = first

    def __repr__(self) -> str:
        return f"<Backoff next={self._next:g}>"

    def after(self, lasted: float) -> float:
        """Return the pause after a failure that came when it had gone well for `lasted` seconds."""
        if lasted >= self._forgiven:
            self._next = self._first
        pause, self._next = self._next, min(self._next * 2, self._most)
        return pause
