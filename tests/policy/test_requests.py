from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.document import Rule
from meshproxy.policy.requests import Terms

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ENDS = st.none() | st.integers(-3, 3).map(lambda hours: NOW + timedelta(hours=hours))


def rule(number: int, end: datetime | None) -> Rule:
    return Rule(f"rule-{number}", number, number, (), expires=end)


@given(st.lists(ENDS, max_size=10))
def test_the_first_rule_in_force_is_found_at_any_time(ends: list[datetime | None]) -> None:
    terms, rules = Terms(), [rule(number, end) for number, end in enumerate(ends)]
    for each in rules:
        terms.add(each)
    for hours in range(-4, 5):
        now = NOW + timedelta(hours=hours)
        assert terms.first(now) is next((each for each in rules if not each.expired(now)), None)


def test_rules_that_can_never_be_first_are_not_kept() -> None:
    terms = Terms()
    for number in range(1000):
        terms.add(rule(number, None if number == 2 else NOW + timedelta(hours=number % 2)))
    assert repr(terms) == "<Terms of rules [0, 1, 2]>"
    terms = Terms()
    for number in range(1000):
        terms.add(rule(number, NOW))
    assert repr(terms) == "<Terms of rules [0]>"
