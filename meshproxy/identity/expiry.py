"""How urgent a renewal is: decided by `now` and the share of the certificate's life that is left."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from meshproxy.identity.material import Term


class Urgency(IntEnum):
    """Ordered, so that a warning is due when it rises."""

    NONE = 0
    SOON = 1  # a quarter of life left: whoever renews at half has failed for a quarter
    URGENT = 2  # a tenth left
    EXPIRED = 3


_SOON = 0.25
_URGENT = 0.10


def urgency(term: Term, now: datetime) -> Urgency:
    """Return how urgent it is at `now` to replace the certificate valid for `term`."""
    left = (term.not_after - now).total_seconds() / max((term.not_after - term.not_before).total_seconds(), 1.0)
    if left < 0:
        return Urgency.EXPIRED
    if left < _URGENT:
        return Urgency.URGENT
    return Urgency.SOON if left < _SOON else Urgency.NONE
