from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.limits.rate import Rate


def test_a_burst_is_told_then_the_pace_is_kept_and_the_rest_counted() -> None:
    rate = Rate(per_second=2, burst=3)
    assert [rate.take(100.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert rate.take(100.4) is None
    assert rate.take(100.5) == 3
    assert rate.take(100.5) is None
    assert rate.take(101.0) == 1
    assert repr(rate) == "<Rate tokens=0.0/3 untold=0>"


def test_quiet_times_fill_it_up_to_the_burst_and_no_further() -> None:
    rate = Rate(per_second=1, burst=2)
    assert [rate.take(0.0) for _ in range(3)] == [0, 0, None]
    assert [rate.take(1e9) for _ in range(3)] == [1, 0, None]


@given(
    per_second=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 10), max_size=200),
    start=st.floats(0, 1e6),
)
def test_it_never_grants_more_than_it_promised_and_forgets_no_refusal(
    per_second: float, burst: int, steps: list[float], start: float
) -> None:
    rate = Rate(per_second=per_second, burst=burst)
    now, granted, told, refused = start, 0, 0, 0
    for step in steps:
        now += step
        answer = rate.take(now)
        if answer is None:
            refused += 1
        else:
            granted += 1
            told += answer
        assert granted <= burst + (now - start) * per_second + 1e-3
    refused -= told
    assert f"untold={refused}>" in repr(rate)


@given(st.lists(st.floats(0, 1e9), max_size=100))
def test_a_clock_that_steps_back_grants_nothing_extra(times: list[float]) -> None:
    rate = Rate(per_second=1, burst=1)
    for now in times:
        rate.take(now)
    rate = Rate(per_second=1, burst=1)
    assert rate.take(50.0) == 0
    assert rate.take(10.0) is None
    assert rate.take(10.5) is None
