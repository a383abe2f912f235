"""When certificates are valid, and how urgent their renewal is: decided by `now`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class Validity(StrEnum):
    """Where now lies in the life of a certificate chain."""

    VALID = "valid"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"


class CertificateRole(StrEnum):
    """The certificates whose expiry somebody must watch."""

    LEAF = "leaf"
    INTERMEDIATE = "intermediate"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Term:
    """When a certificate is valid, both ends inclusive (RFC 5280 section 4.1.2.5), and which it is."""

    role: CertificateRole
    not_before: datetime
    not_after: datetime
    subject: str = ""  # a SPIFFE ID, or a name (RFC 4514)
    serial: str = ""  # in hex


class Urgency(IntEnum):
    """Ordered, so that a warning is due when it rises."""

    NONE = 0
    SOON = 1  # a quarter of life left: whoever renews at half has failed for a quarter
    URGENT = 2  # a tenth left
    EXPIRED = 3


_SOON = 0.25
_URGENT = 0.10


def validity(terms: Iterable[Term], now: datetime) -> Validity:
    """Return whether all certificates of a chain are valid at `now`; one that expired outweighs one yet to come."""
    chain = tuple(terms)
    if any(now > term.not_after for term in chain):
        return Validity.EXPIRED
    return Validity.NOT_YET_VALID if any(now < term.not_before for term in chain) else Validity.VALID


def urgency(term: Term, now: datetime) -> Urgency:
    """Return how urgent it is at `now` to replace the certificate valid for `term`."""
    left = (term.not_after - now).total_seconds() / max((term.not_after - term.not_before).total_seconds(), 1.0)
    if left < 0:
        return Urgency.EXPIRED
    if left < _URGENT:
        return Urgency.URGENT
    return Urgency.SOON if left < _SOON else Urgency.NONE
