from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.requests import Terms

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ENDS = st.none() | st.integers(-3, 3).map(lambda hours: NOW + timedelta(hours=hours))


@given(st.lists(ENDS, max_size=10))
def test_the_first_rule_in_force_is_found_at_any_time(ends: list[datetime | None]) -> None:
    terms = Terms()
    for rule, end in enumerate(ends):
        terms.add(rule, end)
    for hours in range(-4, 5):
        now = NOW + timedelta(hours=hours)
        assert terms.first(now) == next((rule for rule, end in enumerate(ends) if end is None or now < end), None)


def test_rules_that_can_never_be_first_are_not_kept() -> None:
    terms = Terms()
    for rule in range(1000):
        terms.add(rule, None if rule == 2 else NOW + timedelta(hours=rule % 2))
    assert repr(terms) == "<Terms of rules [0, 1, 2]>"
