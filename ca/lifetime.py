"""How long a certificate may live: the limits, the backdating, and never longer than what signed it.

A leaf that outlives its issuer breaks in the field long after the mistake (smallstep/certificates#381), and one cut
short without a word comes out already expired (vault#30621). So a leaf ends with the first CA above it, and when less
than the minimum would be left, issuing fails and names the CA that is running out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

BACKDATE: Final = timedelta(minutes=2)  # clocks 5 to 30 s apart are seen in the field (istio#32176)
ROOT_TTL: Final = timedelta(days=3650)
INTERMEDIATE_TTL: Final = timedelta(days=365)
SHORTEST: Final = timedelta(seconds=10)  # of a leaf, where short ones are allowed at all
_SHORT: Final = timedelta(minutes=5)  # of a leaf, where nothing else is said; what lives less is backdated less
_SHORT_BACKDATE_SHARE: Final = 4  # a leaf that begins long before it was made would be due for renewal at once
INTERMEDIATE_SHARE: Final = 6  # a leaf lives at most 1/6 of its intermediate, so rotating one always has time


class LifetimeError(ValueError):
    """A lifetime outside the limits; the text is a sentence saying what was asked, what is allowed, what to do."""


@dataclass(frozen=True, slots=True)
class LeafLimits:
    """What one CA allows its leaves. Constructing it checks 5m <= minimum <= default <= maximum <= 7d.

    With `short` the minimum may go down to 10s. Such a leaf does not outlive a restart of the CA, and is backdated by a
    quarter of its life only, so clocks must agree that well.
    """

    default: timedelta = timedelta(hours=24)
    minimum: timedelta = timedelta(minutes=5)
    maximum: timedelta = timedelta(days=7)
    short: bool = False

    def __post_init__(self) -> None:
        floor, ceiling = SHORTEST if self.short else _SHORT, timedelta(days=7)
        if not floor <= self.minimum <= self.default <= self.maximum <= ceiling:
            words = "10s" if self.short else "5m"
            raise LifetimeError(
                f"leaf lifetimes must satisfy {words} <= minimum <= default <= maximum <= 7d, found minimum "
                f"{in_words(self.minimum)}, default {in_words(self.default)}, maximum {in_words(self.maximum)}"
            )

    def narrowed(self, *, default: timedelta, maximum: timedelta) -> LeafLimits:
        """The same with another default and maximum. Raises LifetimeError as constructing does."""
        return LeafLimits(default=default, minimum=self.minimum, maximum=maximum, short=self.short)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate is valid: aware, UTC, whole seconds, both ends inclusive (RFC 5280 4.1.2.5)."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class LeafLifetime:
    """A decided leaf validity; `clamped_by` names the CA that cut it short of what was asked, or is None."""

    validity: Validity
    clamped_by: str | None


def root_validity(ttl: timedelta, *, now: datetime) -> Validity:
    """The validity of a root made at `now` to last `ttl`, backdated by two minutes. Raises LifetimeError below 1h."""
    return _from(now, _ca_ttl("root", ttl))


def intermediate_validity(ttl: timedelta, *, now: datetime, root: Validity, limits: LeafLimits) -> Validity:
    """The validity of an intermediate made at `now` under `root`: `ttl`, but never past the root.

    Raises LifetimeError when a sixth of it would be shorter than the shortest leaf allowed: it could issue nothing.
    """
    wanted = _from(now, _ca_ttl("intermediate", ttl))
    validity = Validity(max(wanted.not_before, root.not_before), min(wanted.not_after, root.not_after))
    life = validity.not_after - validity.not_before
    if life < limits.minimum * INTERMEDIATE_SHARE:
        raise LifetimeError(
            f"an intermediate of {in_words(life)} could sign no leaf: leaves last at least {in_words(limits.minimum)} "
            f"and at most 1/{INTERMEDIATE_SHARE} of it; give it at least "
            f"{in_words(limits.minimum * INTERMEDIATE_SHARE)}"
        )
    return validity


def leaf_lifetime(
    ttl: timedelta,
    *,
    now: datetime,
    limits: LeafLimits,
    issuers: Sequence[tuple[str, Validity]],
    after: datetime | None = None,
) -> LeafLifetime:
    """Decide a leaf's validity at the aware time `now`, to last `ttl` from then on.

    `issuers` are the CAs above it with the name to call each by, the intermediate first. `after`: it begins later than
    that, because what began up to then is revoked. Raises LifetimeError when
    `ttl` is outside `limits` or above a sixth of the intermediate's life, when a CA is not yet valid or has expired,
    and when clamping to the first CA to expire leaves less than the minimum.
    """
    _require_within(ttl, limits, issuers[0])
    for name, issuer in issuers:
        if now < issuer.not_before:
            raise LifetimeError(
                f"the {name} is valid only from {issuer.not_before:%Y-%m-%dT%H:%M:%SZ}, and it is "
                f"{now:%Y-%m-%dT%H:%M:%SZ} here; check this machine's clock"
            )
    wanted = _from(now, ttl, backdate=BACKDATE if ttl >= _SHORT else ttl / _SHORT_BACKDATE_SHARE)
    first_name, first = min(issuers, key=lambda each: each[1].not_after)
    left = first.not_after - now
    if left < limits.minimum:
        state = (
            f"expired at {first.not_after:%Y-%m-%dT%H:%M:%SZ}"
            if left < timedelta(0)
            else f"expires in {in_words(left)}, and a certificate must last at least {in_words(limits.minimum)}"
        )
        raise LifetimeError(f"the {first_name} {state}; make a new CA with meshproxy ca init")
    latest_start = max(issuer.not_before for _, issuer in issuers)
    if after is not None:
        latest_start = max(latest_start, after.replace(microsecond=0) + timedelta(seconds=1))
    validity = Validity(max(wanted.not_before, latest_start), min(wanted.not_after, first.not_after))
    return LeafLifetime(validity, first_name if validity.not_after < wanted.not_after else None)


def validity_of(certificate: x509.Certificate) -> Validity:
    """The validity written in a certificate."""
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def in_words(span: timedelta) -> str:
    """A span as people say it, in its largest unit and that one's neighbour: `9 y 364 d`, `22 h 10 min`, `6 d`.

    The sign is left out. The rest is cut off, never rounded up, so that nothing is said to last longer than it does.
    """
    seconds = abs(int(span.total_seconds()))
    units = (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (lesser, lesser_size) in pairwise(units):
        if seconds >= size:
            count, rest = divmod(seconds, size)
            lesser_count = rest // lesser_size
            return f"{count} {unit} {lesser_count} {lesser}" if lesser_count else f"{count} {unit}"
    return f"{seconds} s"


def _require_within(ttl: timedelta, limits: LeafLimits, intermediate: tuple[str, Validity]) -> None:
    if ttl < limits.minimum:
        raise LifetimeError(
            f"a lifetime of {in_words(ttl)} is too short: this CA issues for at least {in_words(limits.minimum)}"
        )
    if ttl > limits.maximum:
        raise LifetimeError(
            f"a lifetime of {in_words(ttl)} is too long: this CA issues for at most {in_words(limits.maximum)}"
        )
    name, validity = intermediate
    longest = (validity.not_after - validity.not_before) / INTERMEDIATE_SHARE
    if ttl > longest:
        raise LifetimeError(
            f"a lifetime of {in_words(ttl)} is too long: at most {in_words(longest)}, "
            f"1/{INTERMEDIATE_SHARE} of the life of the {name}"
        )


def _ca_ttl(kind: str, ttl: timedelta) -> timedelta:
    if ttl < timedelta(hours=1):
        raise LifetimeError(f"a lifetime of {in_words(ttl)} is too short for the {kind}: at least 1 h")
    return ttl


def _from(now: datetime, ttl: timedelta, *, backdate: timedelta = BACKDATE) -> Validity:
    start = now.replace(microsecond=0)  # certificates know whole seconds only
    try:
        begin = start - timedelta(seconds=int(backdate.total_seconds()))
        return Validity(begin, start + timedelta(seconds=int(ttl.total_seconds())))
    except OverflowError:
        raise LifetimeError(f"a lifetime of {in_words(ttl)} reaches beyond the calendar") from None
