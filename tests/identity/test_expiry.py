from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.identity.expiry import CertificateRole, Term, Urgency, Validity, urgency, validity

START = datetime(2026, 6, 1, tzinfo=UTC)


def term(hours: float, start: datetime = START) -> Term:
    return Term(CertificateRole.LEAF, start, start + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("hours", "level"),
    [
        (-1.0, Urgency.NONE),
        (0.0, Urgency.NONE),
        (75.0, Urgency.NONE),
        (75.01, Urgency.SOON),
        (90.0, Urgency.SOON),
        (90.01, Urgency.URGENT),
        (100.0, Urgency.URGENT),
        (100.01, Urgency.EXPIRED),
        (1e4, Urgency.EXPIRED),
    ],
)
def test_urgency_rises_at_a_quarter_at_a_tenth_and_at_the_end(hours: float, level: Urgency) -> None:
    assert urgency(term(100), START + timedelta(hours=hours)) is level


@given(st.floats(0.01, 1e5), st.floats(-10, 1e5), st.floats(0, 1e4))
def test_urgency_never_falls_as_time_goes_on(life: float, first: float, later: float) -> None:
    held = term(life)
    early, late = (urgency(held, START + timedelta(hours=hours)) for hours in (first, first + later))
    assert early <= late


def test_a_certificate_without_any_life_divides_by_nothing() -> None:
    assert urgency(term(0), START) is Urgency.URGENT
    assert urgency(term(0), START + timedelta(seconds=1)) is Urgency.EXPIRED


@pytest.mark.parametrize(
    ("hours", "state"),
    [
        (-0.001, Validity.NOT_YET_VALID),
        (0, Validity.NOT_YET_VALID),  # the second certificate starts later
        (1, Validity.VALID),
        (5, Validity.VALID),
        (10, Validity.VALID),
        (10.001, Validity.EXPIRED),
    ],
)
def test_a_chain_is_valid_while_all_of_it_is_both_ends_included(hours: float, state: Validity) -> None:
    chain = [term(10), term(20, START + timedelta(hours=1))]
    assert validity(chain, START + timedelta(hours=hours)) is state


def test_what_expired_outweighs_what_is_yet_to_come() -> None:
    chain = [term(1), term(1, START + timedelta(days=9))]
    assert validity(chain, START + timedelta(days=5)) is Validity.EXPIRED
