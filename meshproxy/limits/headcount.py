"""How many of something each of many has, so that none has too many."""

from __future__ import annotations


class Headcount:
    """Counts by key, each up to `most`; a key that has none is forgotten, so there are no more keys than things."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Headcount keys={len(self._counts)} most={self.most}>"

    def enter(self, key: str) -> bool:
        """Count one more, unless that would be too many; returns whether it was counted."""
        count = self._counts.get(key, 0)
        if count >= self.most:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        """Count one less of what was counted by `enter`."""
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
