"""Admission in a closed loop, as arithmetic: whoever calls, what can be served is served, and soon."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from meshproxy.limits.flight import UNBOUNDED, Flight
from tests.limits.closed_loop_model import Costs, Loop

BOUND = 0.02
SUSTAINABLE = 64


def loop(*, request: float = 200e-6, service: float = 1e-3, way: float = 1e-3, max_lag: float | None = BOUND) -> Loop:
    return Loop(Flight(max_lag=max_lag), Costs(request, refusal=request * 1.2, service=service, way=way))


def test_five_times_the_callers_and_rude_ones() -> None:
    one = loop(request=300e-6)
    peak, alone = one.run(SUSTAINABLE, 4), one.p99()
    assert one.refused == 0
    assert one.run(5 * SUSTAINABLE, 3) >= 0.85 * peak
    assert one.run(5 * SUSTAINABLE, 15) >= 0.85 * peak
    assert one.p99() <= 3 * alone
    assert one.refused > 0
    assert one.run(SUSTAINABLE, 5) >= 0.95 * peak
    assert one.run(SUSTAINABLE, 6) >= 0.99 * peak
    assert one.flight.most == UNBOUNDED


def test_a_burst_is_served_in_full() -> None:
    one = loop()
    one.run(200, 0.2)
    one.run(0, 5)
    assert one.refused == 0


def test_callers_who_stay_away_come_in_by_and_by() -> None:
    one = loop(request=400e-6)
    one.run(320, 60, rude=False)
    assert one.never_served == 0


def test_without_a_bound_it_is_only_slower() -> None:
    one = loop(request=300e-6, max_lag=None)
    one.run(SUSTAINABLE, 4)
    alone = one.p99()
    one.run(5 * SUSTAINABLE, 4)
    assert one.p99() > 4 * alone  # so it is the bound that the others owe it to


@settings(
    deadline=None, max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # to shrink takes minutes
@given(
    callers=st.integers(1, 6 * SUSTAINABLE),
    request=st.floats(100e-6, 300e-6),
    service=st.floats(0, 0.02),
    way=st.floats(0, 0.02),
    rude=st.booleans(),
)
def test_goodput_never_falls_under_four_fifths(
    callers: int, request: float, service: float, way: float, *, rude: bool
) -> None:
    free, bound = (loop(request=request, service=service, way=way, max_lag=lag) for lag in (None, BOUND))
    assert bound.run(callers, 6, rude=rude) >= 0.8 * free.run(callers, 2)
    bound.run(SUSTAINABLE // 2, 3)  # whoever is put off has come again
    free.run(SUSTAINABLE // 2, 1)
    assert bound.run(SUSTAINABLE // 2, 2) >= 0.95 * free.run(SUSTAINABLE // 2, 2)
    assert not bound.flight.sheds
