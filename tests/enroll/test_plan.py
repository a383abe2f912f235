"""When to renew and when to try again: tables, and what holds for every life and every die."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.enroll import plan
from meshproxy.enroll.plan import Appointment, Left, Life

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 86400.0


def life_of(seconds: float) -> Life:
    return Life(START, START + timedelta(seconds=seconds))


class Loaded(Random):
    """A die that always falls the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


LIVES = st.floats(10, 400 * DAY).map(life_of)
DICE = st.integers(0, 1 << 32).map(Random)


@pytest.mark.parametrize(
    ("left", "fallen", "hours"),
    [
        (Left(), 0.5, 12.0),
        (Left(), 0.0, 14.4),  # a tenth of life less left
        (Left(), 1.0, 9.6),
        (Left(0.25), 0.5, 18.0),
        (Left(seconds=8 * 3600), 0.5, 16.0),
        (Left(seconds=0), 0.5, 22.8),  # never so late that nothing is left to try again
        (Left(seconds=48 * 3600), 0.5, 0.0),  # longer than it lives: from its beginning on
    ],
)
def test_renewal_is_planned_by_what_is_left(left: Left, fallen: float, hours: float) -> None:
    planned = plan.renewal(life_of(DAY), Loaded(fallen), left)
    assert planned - START == pytest.approx(timedelta(hours=hours), abs=timedelta(seconds=1))


@given(LIVES, DICE)
def test_renewal_lies_around_half_of_life(life: Life, dice: Random) -> None:
    share = (plan.renewal(life, dice) - life.begin).total_seconds() / life.seconds
    assert 0.3999 <= share <= 0.6001


@given(LIVES, DICE, st.floats(0, 1))
def test_at_once_is_within_a_tenth_of_life_and_before_its_end(life: Life, dice: Random, passed: float) -> None:
    now = life.begin + timedelta(seconds=life.seconds * passed)
    planned = plan.at_once(life, dice, now=now)
    assert now <= planned <= life.end
    assert (planned - now).total_seconds() <= life.seconds * 0.1 + 1e-3


@given(st.none() | LIVES, DICE, st.integers(1, 10_000))
def test_a_pause_is_never_nothing_and_never_more_than_a_minute(life: Life | None, dice: Random, failures: int) -> None:
    pause = plan.pause(failures, life, dice)
    assert 0 < pause <= 60.0
    if life is None:
        assert pause >= 1.0
    else:
        assert pause <= max(life.seconds * 0.05, 1.0)
        assert pause >= min(1.0, life.seconds * 0.01) / 2


def test_pauses_grow_up_to_a_minute_and_stay_there() -> None:
    longest = [plan.pause(failures, None, Loaded(1.0)) for failures in range(1, 12)]
    assert longest == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0]
    assert {plan.pause(failures, None, Loaded(0.0)) for failures in range(1, 12)} == {1.0}


def test_a_leaf_of_thirty_seconds_is_tried_often_enough() -> None:
    life = life_of(37.5)
    tried, now, failures = 0, plan.renewal(life, Loaded(1.0)), 0
    while now < life.end:
        tried, failures = tried + 1, failures + 1
        now += timedelta(seconds=plan.pause(failures, life, Loaded(1.0)))
    assert tried >= 8


@pytest.mark.parametrize(("asked", "least", "most"), [(30.0, 30.0, 36.0), (1e9, 600.0, 720.0), (0.0, 1.0, 2.0)])
def test_the_ca_may_ask_for_more_patience_within_bounds(asked: float, least: float, most: float) -> None:
    assert plan.pause(1, None, Loaded(0.0), asked=asked) == pytest.approx(least)
    assert plan.pause(1, None, Loaded(1.0), asked=asked) == pytest.approx(most)


@given(st.none() | LIVES, st.floats(-DAY, 400 * DAY))
def test_a_nap_is_at_most_half_a_minute_and_a_small_part_of_a_life(life: Life | None, ahead: float) -> None:
    nap = plan.nap(START + timedelta(seconds=ahead), life, now=START)
    assert 0.05 <= nap <= 30.0
    if life is not None:
        assert nap <= max(life.seconds * 0.02, 0.05)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (timedelta(0), False),
        (timedelta(seconds=59), False),
        (timedelta(seconds=60), True),
        (timedelta(days=3), True),  # suspended
        (timedelta(seconds=-1), False),
        (timedelta(days=-3), True),  # the clock was set back: who waited would wait for three days
    ],
)
def test_an_appointment_is_kept_through_every_jump_of_the_clock(now: timedelta, due: bool) -> None:  # noqa: FBT001
    made = Appointment(START + timedelta(seconds=60), timedelta(seconds=60))
    assert made.is_due(START + now) is due


@pytest.mark.parametrize(
    ("passed", "left", "due"),
    [
        (11.9, Left(), False),
        (12.0, Left(), True),
        (15.9, Left(seconds=28800), False),
        (16.0, Left(seconds=28800), True),
    ],
)
def test_who_asks_once_is_told_by_what_is_left(passed: float, left: Left, due: bool) -> None:  # noqa: FBT001
    assert plan.is_due(life_of(DAY), left, now=START + timedelta(hours=passed)) is due


def most_within(times: list[float], window: float) -> int:
    """How many of these fall into the fullest window."""
    ordered, first, most = sorted(times), 0, 0
    for last, time in enumerate(ordered):
        while time - ordered[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_a_thousand_that_were_issued_together_do_not_come_back_together() -> None:
    life = life_of(DAY)
    times = [(plan.renewal(life, Random(each)) - START).total_seconds() for each in range(1000)]
    assert most_within(times, 60.0) < 15
    assert max(times) - min(times) > 4 * 3600


def test_a_thousand_that_waited_for_the_ca_for_hours_do_not_fall_upon_it() -> None:
    """It was down for 12 h of a 24 h life, and is back: all of them are trying, and all are served within a minute."""
    life, back = life_of(DAY), 12 * 3600.0
    came: list[float] = []
    for each in range(1000):
        dice = Random(each)
        now, failures = (plan.renewal(life, dice) - START).total_seconds(), 0
        while now < back:
            failures += 1
            now += plan.pause(failures, life, dice)
        came.append(now)
    waited = [time for time in came if time < back + 120.0]
    assert len(waited) > 300
    assert most_within(waited, 1.0) < 30
    assert max(came) < life.seconds * 0.61


@given(st.floats(1, 3600), DICE)
def test_polls_are_spread_around_the_hint(hint: float, dice: Random) -> None:
    assert hint * 0.8 <= plan.poll_pause(hint, dice) <= hint * 1.2


@given(st.none() | LIVES, DICE)
def test_the_first_attempt_after_a_start_comes_soon_and_not_at_one_moment(life: Life | None, dice: Random) -> None:
    assert 0 <= plan.first_try(life, dice) <= 1.0


def test_short_lives_have_less_patience() -> None:
    assert (plan.patience(None), plan.patience(life_of(DAY))) == (1.0, 1.0)
    assert plan.patience(life_of(30)) == pytest.approx(0.2)
