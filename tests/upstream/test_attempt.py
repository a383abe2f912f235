from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.upstream.attempt import REST_SECONDS, FailedAttempt, NoUpstream, Phase, attempt_order
from meshproxy.wire.address import Address, parse_address

A, B, C = (parse_address(f"{name}:1") for name in "abc")


@pytest.mark.parametrize(
    ("failed_at", "now", "order"),
    [
        ({}, 0.0, (A, B, C)),
        ({}, 1e6, (A, B, C)),
        ({A: 100.0}, 100.0, (B, C, A)),
        ({A: 100.0}, 100.0 + REST_SECONDS - 0.001, (B, C, A)),
        ({A: 100.0}, 100.0 + REST_SECONDS, (A, B, C)),
        ({A: 100.0, B: 99.0}, 101.0, (C, A, B)),
        ({A: 100.0, B: 100.0, C: 100.0}, 101.0, (A, B, C)),
        ({B: 1.0}, 100.0, (A, B, C)),
    ],
)
def test_who_failed_lately_is_asked_last(
    failed_at: dict[Address, float], now: float, order: tuple[Address, ...]
) -> None:
    assert attempt_order((A, B, C), failed_at, now) == order


@given(
    st.lists(st.integers(0, 20), unique=True, max_size=10),
    st.dictionaries(st.integers(0, 20), st.floats(0, 1e6), max_size=10),
    st.floats(0, 1e6),
)
def test_nobody_is_ever_left_out_and_equals_keep_their_order(
    names: list[int], failed: dict[int, float], now: float
) -> None:
    endpoints = [parse_address(f"h{name}:1") for name in names]
    failed_at = {parse_address(f"h{name}:1"): at for name, at in failed.items()}
    order = attempt_order(endpoints, failed_at, now)
    assert sorted(map(str, order)) == sorted(map(str, endpoints))
    resting = [each for each in order if now - failed_at.get(each, -1e9) < REST_SECONDS]
    assert list(order) == [each for each in endpoints if each not in resting] + [
        each for each in endpoints if each in resting
    ]


def test_that_nobody_is_left_is_told_with_every_failure() -> None:
    failures = [FailedAttempt("a:1", Phase.CONNECT, "Connection refused"), FailedAttempt("b:1", Phase.RESOLVE, "none")]
    error = NoUpstream(failures)
    assert error.failures == tuple(failures)
    assert str(error) == "a:1: connect: Connection refused; b:1: resolve: none"
