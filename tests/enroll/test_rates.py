"""Nobody gets more than his share, nobody is held up by another's, and no crowd fills the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.configuration import Rates
from meshproxy.enroll.rates import Buckets, By, Gate, TooOften, origin

MOMENTS = st.lists(st.floats(0, 5, allow_nan=False), max_size=60)


@given(MOMENTS, st.floats(0.1, 10), st.integers(1, 8))
def test_no_more_than_the_burst_and_the_rate_is_granted(pauses: list[float], per_second: float, burst: int) -> None:
    buckets, now, granted = Buckets(per_second=per_second, burst=burst), 0.0, 0
    for pause in pauses:
        now += pause
        if not buckets.wait("a", now):
            buckets.take("a", now)
            granted += 1
        assert granted <= burst + now * per_second + 1e-6


@given(MOMENTS, st.floats(0.1, 10), st.integers(1, 8))
def test_who_waits_as_told_is_served(pauses: list[float], per_second: float, burst: int) -> None:
    buckets, now = Buckets(per_second=per_second, burst=burst), 0.0
    for pause in pauses:
        now += pause
        wait = buckets.wait("a", now)
        assert 0 <= wait <= 1 / per_second + 1e-9
        now += wait + 1e-6
        assert buckets.wait("a", now) == 0
        buckets.take("a", now)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=200), st.integers(1, 4))
def test_it_never_keeps_more_than_it_may(keys: list[str], most: int) -> None:
    buckets = Buckets(per_second=1, burst=2, most=most)
    for number, key in enumerate(keys):
        now = number / 10
        if not buckets.wait(key, now):
            buckets.take(key, now)
        assert len(buckets._levels) <= most


def test_the_one_that_rested_longest_is_forgotten() -> None:
    buckets = Buckets(per_second=1, burst=1, most=2)
    for key in "abac":
        if not buckets.wait(key, 0.0):
            buckets.take(key, 0.0)
    assert buckets.wait("a", 0.0) == 0  # its place went to c, and b's to nobody
    assert buckets.wait("b", 0.0) > 0
    assert buckets.wait("c", 0.0) > 0


def test_a_clock_that_stands_or_goes_back_grants_nothing_more() -> None:
    buckets = Buckets(per_second=1, burst=1)
    buckets.take("a", 100.0)
    assert buckets.wait("a", 100.0) == pytest.approx(1.0)
    assert buckets.wait("a", 50.0) == pytest.approx(1.0)


def test_an_address_has_its_own_bucket_and_shares_one() -> None:
    gate = Gate(Rates(enrol_per_address=1, enrol_burst_per_address=2, enrol_total=3))
    assert [gate.enrol(f"10.0.0.1:{port}", now=0) for port in (1, 2)] == [None, None]
    assert gate.enrol("10.0.0.1:3", now=0) == TooOften(By.ADDRESS, 1.0)
    assert gate.enrol("10.0.0.2:1", now=0) is None
    busy = gate.enrol("10.0.0.3:1", now=0)
    assert busy is not None
    assert busy.by is By.TOTAL
    assert busy.wait == pytest.approx(1 / 3)
    assert gate.enrol("10.0.0.3:1", now=0.34) is None  # being refused by the total took nothing of his own


def test_an_identity_that_hurries_does_not_hold_up_others() -> None:
    gate = Gate(Rates(renew_per_identity_per_minute=2, renew_total=100))
    for _ in range(2):
        assert gate.renew("spiffe://mesh.test/a", now=0) is None
    for _ in range(1000):
        assert gate.renew("spiffe://mesh.test/a", now=0) == TooOften(By.IDENTITY, 30.0)
    assert gate.renew("spiffe://mesh.test/b", now=0) is None
    assert gate.renew("spiffe://mesh.test/a", now=30) is None


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("10.0.0.7:4431", "10.0.0.7"),
        ("[2001:db8:1:2:3:4:5:6]:4431", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]:1", "2001:db8:1:2::/64"),
        ("[::ffff:10.0.0.7]:1", "10.0.0.7"),
        ("[fe80::1%eth0]:1", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_who_is_behind_an_address(address: str, who: str) -> None:
    assert origin(address) == who
