"""Renewal: whether the holder of a leaf gets the next one. Decisions only.

The ledger knows every leaf it ever saw made, and for each lineage which is the latest. Whoever shows one that has a
successor already has a copy, or is the one whom somebody copied: nobody can tell which, so neither gets another, and
somebody should know. The one exception is the holder whose answer was lost: he asks again, with the very key that the
successor certifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ca.lifetime import in_words
from ca.refusals import Refused, Why
from ca.revocation import revoking
from ca.rows import Issued, Lineage

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ca.rows import Rows


@dataclass(frozen=True, slots=True)
class Presented:
    """The leaf that somebody proved to hold: whose key signed it, its serial and its SHA-256, all in hex."""

    issuer: str
    serial: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Renewable:
    """It may have a successor, as far as the ledger is concerned; the rules of ca.toml are asked next."""

    previous: Issued


@dataclass(frozen=True, slots=True)
class Renewed:
    """It has its successor already, for this very key: the answer was lost, and is given again."""

    successor: Issued


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Two hold the same leaf. The lineage is to be marked as suspect, and whoever asked is refused."""

    leaf: Issued
    why: str
    refusal: Refused


def judge(rows: Rows, presented: Presented, spki: str) -> Renewable | Renewed | Doubtful | Refused:
    """Whether whoever presented a leaf may have a successor for the key with the hash `spki`."""
    leaf = rows.get(Issued, presented.issuer, presented.serial)
    if leaf is None or leaf.fingerprint != presented.fingerprint:
        return Refused(
            Why.UNKNOWN_CERTIFICATE,
            f"this CA has no record of serial {presented.serial} (restored from a backup?); enrol with a new token",
            alert=True,
        )
    if revoked := revoking(rows, leaf):
        return Refused(Why.REVOKED, f"this certificate was revoked at {revoked.at:%Y-%m-%dT%H:%M:%SZ}", alert=True)
    lineage = rows.get(Lineage, leaf.lineage)
    if lineage is None or lineage.suspect:
        return Refused(
            Why.SUSPECT, "this certificate was copied, and is not renewed any more; enrol with a new token", alert=True
        )
    if (lineage.issuer, lineage.serial) == (leaf.issuer, leaf.serial):
        return Renewable(leaf)
    latest = rows.get(Issued, lineage.issuer, lineage.serial)
    if latest is not None and latest.generation == leaf.generation + 1 and latest.spki == spki:
        return Renewed(latest)
    why = f"generation {leaf.generation} was presented, and {lineage.generation} is the latest"
    return Doubtful(
        leaf,
        why,
        Refused(
            Why.SUSPECT,
            f"this certificate was renewed before, by another key ({why}): somebody has a copy of it; enrol with a new "
            f"token, and revoke {leaf.id}",
            alert=True,
        ),
    )


def expiry_fault(leaf: Issued, *, grace: timedelta, now: datetime) -> Refused | None:
    """Why a leaf is renewed no more because it has expired, or None: `grace` is how long after its end it still is."""
    if now <= leaf.not_after + grace:
        return None
    words = f"renewal is allowed up to {in_words(grace)} after that" if grace else "it is not renewed after that"
    return Refused(
        Why.EXPIRED,
        f"this certificate expired at {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}, and {words}; enrol with a new token",
    )
