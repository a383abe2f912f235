"""When a grant that ends is spoken of: long enough before that somebody can decide, and once more on its last day."""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from meshproxy.policy.document import Rule

SOON: Final = timedelta(days=14)
_LAST: Final = timedelta(days=1)


class Notice(IntEnum):
    """How near its end a grant is; ordered, so that a warning is due when it rises."""

    NONE = 0  # it ends later, or never
    SOON = 1
    LAST = 2
    ENDED = 3


def notice(rule: Rule, now: datetime) -> Notice:
    """Return how near its end a rule is at `now` (aware)."""
    if rule.expires is None or (left := rule.expires - now) > SOON:
        return Notice.NONE
    if left <= timedelta():
        return Notice.ENDED
    return Notice.LAST if left <= _LAST else Notice.SOON


def is_near(rule: Rule, now: datetime) -> bool:
    """Whether a rule still grants at `now` (aware), and will soon no more."""
    return Notice.NONE < notice(rule, now) < Notice.ENDED
