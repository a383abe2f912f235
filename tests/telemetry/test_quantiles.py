"""Quantiles of a histogram, as Prometheus tells them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.bounds import BOUNDS, BUCKETS, bucket_of
from meshproxy.telemetry.quantiles import quantile


def having(**counts: int) -> list[int]:
    return [counts.get(f"b{bucket}", 0) for bucket in range(BUCKETS)]


@pytest.mark.parametrize(
    ("share", "histogram", "seconds"),
    [
        (0.5, having(), None),
        (0.5, having(b0=1), 0.0025),
        (0.5, having(b0=100), 0.0025),
        (0.99, having(b0=100), 0.00495),
        (1.0, having(b0=100), 0.005),
        (0.5, having(b0=50, b5=50), 0.005),
        (0.75, having(b0=50, b5=50), 0.0875),  # halfway through 0.075 to 0.1
        (0.0, having(b5=10), 0.075),
        (0.5, having(b14=3), 10.0),  # no upper bound: the lower one
        (0.99, having(b0=98, b14=2), 10.0),
    ],
)
def test_quantiles(share: float, histogram: list[int], seconds: float | None) -> None:
    found = quantile(share, histogram)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.lists(st.integers(0, 9_000_000), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_where_it_really_is(micros: list[int], share: float) -> None:
    histogram = [0] * BUCKETS
    for each in micros:
        histogram[bucket_of(each / 1e6)] += 1
    found = quantile(share, histogram)
    assert found is not None
    rank = max(-(-share * len(micros) // 1), 1)
    true = sorted(micros)[min(int(rank), len(micros)) - 1]
    bucket = bucket_of(true / 1e6)
    low = (0.0, *BOUNDS)[bucket]
    assert low <= found + 1e-9
    assert found <= BOUNDS[min(bucket, len(BOUNDS) - 1)] + 1e-9


@given(st.lists(st.integers(0, 100), min_size=BUCKETS, max_size=BUCKETS), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_no_less_time(histogram: list[int], one: float, other: float) -> None:
    low, high = quantile(min(one, other), histogram), quantile(max(one, other), histogram)
    if low is None or high is None:
        assert not any(histogram)
    else:
        assert low <= high
