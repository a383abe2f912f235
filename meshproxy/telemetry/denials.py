"""Who was refused lately, and what for: the same caller asking for the same thing is one row; pure.

Callers and what they ask for are theirs to choose, so all of it is bounded: who asks for endless paths pushes out his
own old rows, and what was too much for one second is only counted.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_AT_ONCE: Final = 64
_MOST_KEPT: Final = 512
_Key = tuple[str, str, str, str, str]
_LONGEST: Final = 1024  # characters of what was asked for


class Refused(msgspec.Struct, frozen=True):
    """A caller whom an allow-list refused, or (in audit mode) would have; times in seconds since 1970."""

    listener: str
    outcome: str  # deny | would_deny
    caller: str
    asked: str  # "GET /path"; empty in TCP mode
    reason: str
    count: int = 1
    first: float = 0.0
    last: float = 0.0

    @property
    def key(self) -> _Key:
        """What makes two of them the same."""
        return self.listener, self.outcome, self.caller, self.asked, self.reason

    def and_again(self, other: Refused) -> Refused:
        """Return both as one."""
        return msgspec.structs.replace(
            self,
            count=self.count + other.count,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
        )


class Fresh:
    """What was refused since somebody took it off: at most `most` different rows, and how often others were."""

    def __init__(self, most: int = _MOST_AT_ONCE) -> None:
        self._most = most
        self._found: dict[_Key, list[str]] = {}  # when first, and when last
        self._counts: dict[_Key, int] = {}
        self._beyond = 0

    def __repr__(self) -> str:
        return f"<Fresh {len(self._counts)}/{self._most} beyond={self._beyond}>"

    def note(self, refused: Refused, ts: str) -> None:
        """Take note of one; `ts` is ISO 8601."""
        key = (refused.listener, refused.outcome, refused.caller, refused.asked[:_LONGEST], refused.reason)
        if key in self._counts:
            self._counts[key] += 1
            self._found[key][1] = ts
        elif len(self._counts) < self._most:
            self._counts[key] = 1
            self._found[key] = [ts, ts]
        else:
            self._beyond += 1

    def take(self) -> tuple[tuple[Refused, ...], int]:
        """Return the rows, and how often others were refused; begin anew."""
        rows = tuple(
            Refused(*key, count=count, first=_seconds(self._found[key][0]), last=_seconds(self._found[key][1]))
            for key, count in self._counts.items()
        )
        beyond, self._beyond = self._beyond, 0
        self._found.clear()
        self._counts.clear()
        return rows, beyond


class Denials:
    """The last rows: at most `most`, the one that was quiet for longest makes room."""

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._rows: OrderedDict[_Key, Refused] = OrderedDict()
        self.beyond = 0  # refusals that have no row any more, or never had

    def __repr__(self) -> str:
        return f"<Denials {len(self._rows)}/{self._most} beyond={self.beyond}>"

    def take(self, rows: Iterable[Refused], beyond: int = 0) -> list[Refused]:
        """Take what was refused lately; returns those rows with all that is known of them."""
        self.beyond += beyond
        changed = []
        for fresh in rows:
            known = self._rows.pop(fresh.key, None)
            row = self._rows[fresh.key] = fresh if known is None else known.and_again(fresh)
            changed.append(row)
        while len(self._rows) > self._most:
            self.beyond += self._rows.popitem(last=False)[1].count
        return changed

    def newest(self, most: int) -> tuple[list[Refused], int]:
        """Return the last rows, newest first, and how many refusals those are that are left out."""
        rows = list(reversed(self._rows.values()))
        return rows[:most], self.beyond + sum(row.count for row in rows[most:])


def _seconds(ts: str) -> float:
    return datetime.fromisoformat(ts).timestamp()
