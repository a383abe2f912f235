"""A token bucket: how often something may be told, and how much went untold."""

from __future__ import annotations


class Rate:
    """Grants `burst` at once and `per_second` in the long run; `now` is any monotonic clock in seconds."""

    __slots__ = ("_burst", "_last", "_per_second", "_tokens", "_untold")

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._last = 0.0
        self._untold = 0

    def __repr__(self) -> str:
        return f"<Rate tokens={self._tokens:.1f}/{self._burst} untold={self._untold}>"

    def take(self, now: float) -> int | None:
        """Return None when it is too soon; else how many were refused since the last grant."""
        self._tokens = min(self._burst, self._tokens + max(now - self._last, 0.0) * self._per_second)
        self._last = now
        if self._tokens < 1:
            self._untold += 1
            return None
        self._tokens -= 1
        untold, self._untold = self._untold, 0
        return untold
