"""Admission as a table over time: what stands is too much, a burst is not, and what is over is over."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.limits.flight import (
    DESCRIPTORS,
    FLOOR,
    INTERVAL,
    LASTS,
    MEMORY,
    OVERLOAD,
    QUIET,
    STANDS,
    UNBOUNDED,
    Flight,
)

BOUND = 0.02
LOOKS = 4  # in an interval


class Pool:
    """Has as many requests as it is told."""

    in_flight = 0


class Loop:
    """A flight, and the time of who looks at it."""

    def __init__(self, count: int, *, max_lag: float | None = BOUND) -> None:
        self.flight = Flight(max_lag=max_lag)
        self.pool = Pool()
        self.flight.pools.add(self.pool)
        self.pool.in_flight = count
        self.now = 100.0
        self.taken_back = 0
        self.flight.observe(float("inf"), self.now)  # an interval begins

    def runs(self, *lags: float, intervals: int = 1, full: bool = False, early: bool = False) -> None:
        """Be behind like this, over and over, for so many intervals, while somebody asks for room, or too early."""
        for lag in itertools.islice(itertools.cycle(lags), intervals * LOOKS):
            if full and self.flight.is_bounded:
                self.pool.in_flight = self.flight.most
                assert not self.flight.has_room()
            if early and self.flight.is_bounded:
                self.taken_back += self.flight.takes_back()
            self.now += INTERVAL / LOOKS
            self.flight.observe(lag, self.now)


def test_a_loop_that_keeps_up_bounds_nothing() -> None:
    loop = Loop(10_000)
    loop.runs(0.001, intervals=100)
    assert (loop.flight.most, loop.flight.objection(1), loop.flight.is_overloaded) == (UNBOUNDED, "", False)
    assert repr(loop.flight) == "<Flight 10000/any lag=1.0ms sheds=False>"


@pytest.mark.parametrize("lags", [(3.0, 0.001), (0.1, 0.1, 0.1, 0.019)])
def test_a_burst_or_a_pause_of_the_machine_is_no_overload(lags: tuple[float, ...]) -> None:
    loop = Loop(10_000)
    loop.runs(*lags, intervals=20)
    assert (loop.flight.most, loop.flight.sheds) == (UNBOUNDED, False)


def test_a_loop_looked_at_seldom_while_it_was_idle_is_judged_by_what_it_does_when_it_is_not() -> None:
    loop = Loop(1000)

    def idles(lag: float) -> None:
        loop.flight.saturation = 0.05
        loop.now += INTERVAL
        loop.flight.observe(lag, loop.now)

    for lag in (0.001, 3.0, 3.0, 0.001, 3.0):  # one look in an interval; whatever it sees, the loop had time to sleep
        idles(lag)
    assert not loop.flight.is_bounded
    loop.flight.saturation = 1.0  # and is looked at closely from now on
    loop.runs(3.0, intervals=STANDS - 1)
    assert not loop.flight.is_bounded
    loop.runs(3.0)
    assert loop.flight.is_bounded


def test_what_stands_shrinks_the_room_below_what_is_in_flight() -> None:
    loop = Loop(1000)
    loop.runs(0.022, intervals=STANDS - 1)
    assert not loop.flight.is_bounded  # that may have been a burst
    loop.runs(0.022)
    assert loop.flight.most == 700
    loop.runs(0.022, full=True)
    assert loop.flight.most == 489  # seven tenths, rounded down
    assert not loop.flight.sheds  # not that far behind


@pytest.mark.parametrize(("lag", "most"), [(0.0101, 630), (0.0125, 560), (0.1, 490)])
def test_once_there_is_a_bound_it_shrinks_to_half_the_lag_and_the_further_behind_the_more(
    lag: float, most: int
) -> None:
    loop = Loop(1000)
    loop.runs(0.022, intervals=STANDS)
    loop.runs(lag, full=True)
    assert loop.flight.most == pytest.approx(most, abs=1)


def test_it_shrinks_below_what_was_seen_at_most_not_below_what_happens_to_be_there() -> None:
    loop = Loop(1000)
    loop.runs(0.022, intervals=STANDS - 1)
    for count in (3, 1000, 500, 3):
        loop.pool.in_flight = count
        loop.now += INTERVAL / LOOKS
        loop.flight.observe(0.022, loop.now)
    assert loop.flight.most == 700


def test_who_asks_for_room_has_it_below_the_bound_only() -> None:
    loop = Loop(1000)
    loop.runs(0.022, intervals=STANDS)
    assert not loop.flight.has_room()
    loop.pool.in_flight = loop.flight.most - 1
    assert loop.flight.has_room()


def test_it_never_shrinks_below_the_floor() -> None:
    loop = Loop(1000)
    loop.runs(5.0, intervals=100)
    assert loop.flight.most == FLOOR
    few = Loop(3)
    few.runs(5.0, intervals=100)
    assert few.flight.most == FLOOR


def test_between_a_quarter_of_the_bound_and_half_of_it_it_stays() -> None:
    loop = Loop(1000)
    loop.runs(0.03, intervals=3)
    before = loop.pool.in_flight = loop.flight.most
    for lag in (0.0051, 0.0099):
        loop.runs(lag, intervals=20, full=True)
        assert loop.flight.most == before


def test_when_it_is_over_the_room_grows_while_it_is_asked_for_and_is_unbounded_when_nobody_was_refused() -> None:
    loop = Loop(1000)
    loop.runs(0.03, intervals=10)
    before = loop.flight.most
    loop.runs(0.001, intervals=4, full=True)
    assert before * 1.15 < loop.flight.most < before * 1.5
    loop.runs(0.001, intervals=QUIET - 1)
    assert loop.flight.is_bounded
    loop.runs(0.001, intervals=2)
    assert loop.flight.most == UNBOUNDED


@pytest.mark.parametrize("lag", [0.001, 0.0075, 0.03])
def test_who_was_refused_is_taken_back_by_and_by_and_holds_the_bound(lag: float) -> None:
    loop = Loop(1000)
    loop.runs(0.05, intervals=STANDS)
    for _ in range(2 * QUIET):
        loop.runs(lag)
        few = max(int(loop.flight.most * 0.05), 1)
        assert [loop.flight.takes_back() for _ in range(few + 1)] == [True] * few + [False]
    assert loop.flight.is_bounded


def test_nobody_is_taken_back_while_it_is_grave() -> None:
    loop = Loop(1000)
    loop.runs(0.2, intervals=LASTS - 1)
    assert loop.flight.objection(2) == ""  # refusing requests may help yet
    loop.runs(0.2)
    assert loop.flight.objection(2) == OVERLOAD
    assert not loop.flight.takes_back()


@pytest.mark.parametrize(("count", "saturation"), [(300, 1.0), (700, 0.5)])
def test_where_there_is_plenty_of_room_many_are_taken_back(count: int, saturation: float) -> None:
    loop = Loop(1000)
    loop.runs(0.05, intervals=STANDS)
    loop.pool.in_flight, loop.flight.saturation = count, saturation
    loop.runs(0.001, intervals=2)
    assert [loop.flight.takes_back() for _ in range(176)] == [True] * 175 + [False]


def test_connections_are_turned_away_only_far_behind_and_let_in_when_it_has_caught_up() -> None:
    loop = Loop(1000)
    loop.runs(0.09, intervals=3)
    assert loop.flight.objection(2) == ""
    loop.runs(0.11)
    assert loop.flight.objection(2) == OVERLOAD
    loop.runs(0.03, intervals=2)
    assert loop.flight.sheds  # not before it has caught up
    loop.runs(0.01, intervals=2)
    assert loop.flight.objection(2) == ""


def test_handshakes_alone_turn_nobody_away() -> None:
    loop = Loop(FLOOR - 1)
    loop.runs(4.0, intervals=4)
    assert loop.flight.objection(2) == ""
    loop.pool.in_flight = FLOOR
    loop.runs(4.0, intervals=2)
    assert loop.flight.objection(2) == OVERLOAD


def test_a_loop_that_sleeps_is_late_for_another_reason_and_refuses_nobody() -> None:
    loop = Loop(1000)
    loop.flight.saturation = 0.5
    loop.runs(5.0, intervals=10)
    assert (loop.flight.most, loop.flight.objection(2)) == (UNBOUNDED, "")
    loop.flight.saturation = 1.0
    loop.runs(5.0, intervals=10)
    assert loop.flight.objection(2) == OVERLOAD
    loop.flight.saturation = 0.5
    loop.pool.in_flight = 10
    loop.runs(5.0, intervals=QUIET + 1)
    assert (loop.flight.most, loop.flight.objection(2)) == (UNBOUNDED, "")


def test_without_a_bound_no_lag_refuses_anything() -> None:
    loop = Loop(1000, max_lag=None)
    loop.runs(5.0, intervals=20)
    assert (loop.flight.most, loop.flight.sheds) == (UNBOUNDED, False)
    loop = Loop(1000)
    loop.runs(5.0, intervals=20)
    loop.flight.bound(None)
    assert (loop.flight.most, loop.flight.sheds) == (UNBOUNDED, False)


def test_full_memory_turns_away_until_it_has_eased() -> None:
    flight = Flight()
    told = []
    for share in (0.94, 0.96, 0.92, 0.89, 0.92):
        flight.observe_memory(share)
        told.append(flight.objection(1))
    assert told == ["", MEMORY, MEMORY, "", ""]


def test_while_memory_is_full_nobody_is_taken_back() -> None:
    loop = Loop(1000)
    loop.flight.observe_memory(0.96)
    loop.runs(0.001, intervals=2 * QUIET, early=True)
    assert (loop.flight.most, loop.taken_back) == (FLOOR, 0)
    loop.runs(0.001, intervals=2 * QUIET)
    assert loop.flight.most == FLOOR


def test_descriptors_are_counted_by_weight() -> None:
    flight = Flight(descriptors=5)
    flight.held = 3
    assert flight.objection(2) == ""
    assert flight.objection(3) == DESCRIPTORS


def test_pools_are_counted_together_and_forgotten_when_they_are_gone() -> None:
    flight, one, two = Flight(), Pool(), Pool()
    one.in_flight, two.in_flight = 2, 3
    flight.pools.update((one, two))
    assert flight.count == 5
    del two
    assert flight.count == 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5000)), max_size=200))
def test_the_room_is_always_room_for_some_and_ends_unbounded_when_all_is_quiet(steps: list[tuple[float, int]]) -> None:
    loop = Loop(0)
    for lag, count in steps:
        loop.pool.in_flight = count
        loop.runs(lag)
        assert loop.flight.most >= FLOOR
    loop.pool.in_flight = 0
    loop.runs(0.0, intervals=QUIET + 1)
    assert (loop.flight.most, loop.flight.objection(2)) == (UNBOUNDED, "")


def test_a_short_lag_lets_nobody_in_while_memory_is_short() -> None:
    flight = Flight(max_lag=0.25)
    flight.observe_memory(0.96)
    for tenth in range(20):
        flight.observe(0.0, tenth / 10)
        assert flight.most == FLOOR
    flight.observe_memory(0.89)
    assert not flight.is_bounded
