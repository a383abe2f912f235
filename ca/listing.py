"""What became of each leaf, for whoever asks which there are. Decisions only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ca import slots
from ca.revocation import revoking
from ca.rows import AuthorityState, Lineage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from ca.ledger import View
    from ca.rows import Issued


class Fate(StrEnum):
    """What became of a leaf; the first that holds, in this order."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    RETIRED = "retired"  # the intermediate that signed it was: everybody denies it, and its holder may renew it
    SUSPECT = "suspect"  # lives, and is renewed no more: two hold it
    RENEWED = "renewed"  # lives, and has a successor
    VALID = "valid"


@dataclass(frozen=True, slots=True)
class Listed:
    """A leaf, and what became of it; `reason` is that of its revocation."""

    leaf: Issued
    fate: Fate
    reason: str | None = None


def listed(
    view: View,
    *,
    now: datetime,
    id: str | None = None,  # noqa: A002 - as everywhere
    within: timedelta | None = None,
    revoked: bool = False,
    expired: bool = False,
) -> Iterator[Listed]:
    """The leaves, oldest first: those that live, and with `expired` the others as well.

    Only of an identity, only what ends `within` a time and has no successor, only what is `revoked`: whatever is asked
    for narrows it further.
    """
    authorities = tuple(view.every(AuthorityState))
    for leaf in view.leaves(id=id, alive_at=None if expired else now):
        found = _fate(view, authorities, leaf, now)
        if revoked and found.fate is not Fate.REVOKED:
            continue
        if within is not None and (found.fate is not Fate.VALID or leaf.not_after > now + within):
            continue
        yield found


def _fate(view: View, authorities: tuple[AuthorityState, ...], leaf: Issued, now: datetime) -> Listed:
    if (revocation := revoking(view, leaf)) is not None:
        return Listed(leaf, Fate.REVOKED, revocation.reason)
    if leaf.not_after < now:
        return Listed(leaf, Fate.EXPIRED)
    if slots.is_retired(authorities, leaf.issuer):
        return Listed(leaf, Fate.RETIRED)
    lineage = view.get(Lineage, leaf.lineage)
    if lineage is not None and lineage.suspect:
        return Listed(leaf, Fate.SUSPECT)
    if lineage is not None and lineage.serial != leaf.serial:
        return Listed(leaf, Fate.RENEWED)
    return Listed(leaf, Fate.VALID)
