from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.limits.backoff import Backoff


def test_each_pause_is_twice_the_last_up_to_the_most() -> None:
    backoff = Backoff(first=0.1, most=5.0, forgiven=30.0)
    assert [backoff.after(1.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_what_went_well_for_long_is_forgiven() -> None:
    backoff = Backoff(first=0.1, most=5.0, forgiven=30.0)
    assert [backoff.after(lasted) for lasted in (0, 29.9, 30.0, 0)] == [0.1, 0.2, 0.1, 0.2]


@given(st.lists(st.floats(0, 1e6)))
def test_it_stays_within_its_bounds(lasted: list[float]) -> None:
    backoff = Backoff(first=0.1, most=5.0, forgiven=30.0)
    assert all(0.1 <= backoff.after(each) <= 5.0 for each in lasted)
