"""Lifetimes: limits, backdating, clamping to the chain, and who is named when it runs out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.lifetime import (
    BACKDATE,
    LeafLimits,
    LifetimeError,
    Validity,
    in_words,
    intermediate_validity,
    leaf_lifetime,
    root_validity,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = NOW.replace(microsecond=0)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LIMITS = LeafLimits()


def issuers(
    intermediate_left: timedelta, root_left: timedelta, *, age: timedelta = 30 * DAY
) -> list[tuple[str, Validity]]:
    return [
        ("intermediate CA", Validity(SECOND - age, SECOND + intermediate_left)),
        ("root CA", Validity(SECOND - age, SECOND + root_left)),
    ]


def test_a_leaf_starts_two_minutes_back_and_ends_in_whole_seconds() -> None:
    decided = leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=issuers(300 * DAY, 3000 * DAY))
    assert decided.validity == Validity(SECOND - BACKDATE, SECOND + DAY)
    assert decided.clamped_by is None


@pytest.mark.parametrize(
    ("ttl", "words"),
    [
        (4 * MINUTE, "too short.*at least 5 min"),
        (timedelta(0), "too short"),
        (7 * DAY + timedelta(seconds=1), "too long.*at most 7 d"),
        (timedelta(days=3650), "too long"),
    ],
)
def test_a_lifetime_outside_the_limits_is_refused_with_the_limit(ttl: timedelta, words: str) -> None:
    with pytest.raises(LifetimeError, match=words):
        leaf_lifetime(ttl, now=NOW, limits=LIMITS, issuers=issuers(300 * DAY, 3000 * DAY))


@pytest.mark.parametrize("ttl", [5 * MINUTE, DAY, 7 * DAY])
def test_the_limits_themselves_are_allowed(ttl: timedelta) -> None:
    decided = leaf_lifetime(ttl, now=NOW, limits=LIMITS, issuers=issuers(300 * DAY, 3000 * DAY))
    assert decided.validity.not_after == SECOND + ttl


def test_a_leaf_lives_at_most_a_sixth_of_its_intermediate() -> None:
    chain = issuers(6 * DAY, 3000 * DAY, age=timedelta(0))
    assert leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=chain).clamped_by is None
    with pytest.raises(LifetimeError, match="at most 1 d, 1/6 of the life of the intermediate CA"):
        leaf_lifetime(DAY + MINUTE, now=NOW, limits=LIMITS, issuers=chain)


@pytest.mark.parametrize(
    ("intermediate_left", "root_left", "first"),
    [(10 * HOUR, 3000 * DAY, "intermediate CA"), (300 * DAY, 10 * HOUR, "root CA")],
)
def test_a_leaf_ends_with_the_first_ca_above_it_and_says_which(
    intermediate_left: timedelta, root_left: timedelta, first: str
) -> None:
    decided = leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=issuers(intermediate_left, root_left))
    assert decided.validity.not_after == SECOND + 10 * HOUR
    assert decided.clamped_by == first


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (4 * MINUTE, "the root CA expires in 3 min 59 s.*at least 5 min"),
        (timedelta(0), "the root CA expired at 2026-11-22T12:00:00Z"),
        (-DAY, "the root CA expired at 2026-11-21T12:00:00Z"),
    ],
)
def test_too_little_left_refuses_and_names_the_ca_and_the_remedy(left: timedelta, words: str) -> None:
    with pytest.raises(LifetimeError, match=f"{words}.*meshproxy ca init"):
        leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=issuers(300 * DAY, left))


def test_a_clock_before_the_ca_began_refuses_and_points_at_the_clock() -> None:
    with pytest.raises(LifetimeError, match=r"valid only from .* clock"):
        leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=issuers(300 * DAY, 3000 * DAY, age=-HOUR))


def test_a_young_ca_is_not_outdated_by_the_backdating() -> None:
    chain = issuers(300 * DAY, 3000 * DAY, age=MINUTE)
    assert leaf_lifetime(DAY, now=NOW, limits=LIMITS, issuers=chain).validity.not_before == SECOND - MINUTE


@given(st.integers(300, 604_800), st.integers(-100, 10**7), st.integers(-100, 10**8))
def test_whatever_is_issued_lies_within_the_whole_chain(ttl: int, intermediate: int, root: int) -> None:
    chain = issuers(timedelta(seconds=intermediate), timedelta(seconds=root))
    try:
        decided = leaf_lifetime(timedelta(seconds=ttl), now=NOW, limits=LIMITS, issuers=chain)
    except LifetimeError:
        return
    life = decided.validity
    assert all(ca.not_before <= life.not_before and life.not_after <= ca.not_after for _, ca in chain)
    assert life.not_after - NOW > LIMITS.minimum - timedelta(seconds=1)
    assert life.not_after <= SECOND + timedelta(seconds=ttl)
    assert (decided.clamped_by is None) == (life.not_after == SECOND + timedelta(seconds=ttl))


def test_an_intermediate_never_outlives_its_root() -> None:
    root = root_validity(10 * DAY, now=NOW)
    assert intermediate_validity(365 * DAY, now=NOW, root=root, limits=LIMITS) == root


def test_an_intermediate_too_short_for_any_leaf_is_refused() -> None:
    limits = LeafLimits(default=DAY, minimum=DAY, maximum=DAY)
    root = root_validity(100 * DAY, now=NOW)
    with pytest.raises(LifetimeError, match="give it at least 6 d"):
        intermediate_validity(5 * DAY, now=NOW, root=root, limits=limits)


def test_cas_of_minutes_or_millennia_are_refused() -> None:
    with pytest.raises(LifetimeError, match="root: at least 1 h"):
        root_validity(59 * MINUTE, now=NOW)
    with pytest.raises(LifetimeError, match="beyond the calendar"):
        root_validity(timedelta(days=4_000_000), now=NOW)


@pytest.mark.parametrize(
    ("minimum", "default", "maximum"),
    [(4 * MINUTE, DAY, DAY), (HOUR, MINUTE * 30, DAY), (HOUR, 2 * DAY, DAY), (HOUR, DAY, 8 * DAY)],
)
def test_limits_out_of_order_or_weakened_are_refused(
    minimum: timedelta, default: timedelta, maximum: timedelta
) -> None:
    with pytest.raises(LifetimeError, match="5m <= minimum <= default <= maximum <= 7d"):
        LeafLimits(default=default, minimum=minimum, maximum=maximum)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(hours=22, minutes=10, seconds=59), "22 h 10 min"),
        (timedelta(days=6, minutes=5), "6 d"),
        (timedelta(days=3650), "10 y"),
        (timedelta(days=3649, hours=23), "9 y 364 d"),
        (-timedelta(minutes=90), "1 h 30 min"),
    ],
)
def test_spans_in_words(span: timedelta, words: str) -> None:
    assert in_words(span) == words


def test_a_short_leaf_is_backdated_by_a_quarter_of_its_life() -> None:
    """Two minutes would make a leaf of thirty seconds due for renewal before it is written."""
    limits, above = LeafLimits(minimum=timedelta(seconds=10), short=True), issuers(300 * DAY, 3000 * DAY)
    for seconds, backdate in ((10, 2), (30, 7), (299, 74), (300, 120)):
        validity = leaf_lifetime(timedelta(seconds=seconds), now=NOW, limits=limits, issuers=above).validity
        assert validity.not_before == NOW.replace(microsecond=0) - timedelta(seconds=backdate)
        assert validity.not_after == NOW.replace(microsecond=0) + timedelta(seconds=seconds)


def test_a_leaf_begins_after_what_is_revoked() -> None:
    above = issuers(300 * DAY, 3000 * DAY)
    for cutoff in (NOW, NOW - timedelta(seconds=30)):
        validity = leaf_lifetime(HOUR, now=NOW, limits=LeafLimits(), issuers=above, after=cutoff).validity
        assert validity.not_before == cutoff.replace(microsecond=0) + timedelta(seconds=1)
    long_ago = leaf_lifetime(HOUR, now=NOW, limits=LeafLimits(), issuers=above, after=NOW - HOUR).validity
    assert long_ago.not_before == NOW.replace(microsecond=0) - BACKDATE
