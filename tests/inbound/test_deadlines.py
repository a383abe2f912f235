"""When the patience with a connection runs out, as tables."""

from __future__ import annotations

import pytest

from meshproxy.http.phase import Phase
from meshproxy.inbound.deadlines import Deadlines, Due, Patience, Waiting
from meshproxy.wire.sweep import TICK

PATIENCE = Patience(head=10, idle=300, response=60, body_min_rate=500)
QUIET = Waiting(downstream=False, upstream=False)
CALLER = Waiting(downstream=True, upstream=False)
UPSTREAM = Waiting(downstream=False, upstream=True)
NEVER = float("inf")


def enter(deadlines: Deadlines, phase: Phase, now: float, *, first: bool) -> None:
    """Begin a phase, and look."""
    deadlines.since, deadlines.moved = now, 0
    deadlines.look(phase, first=first)


@pytest.mark.parametrize(
    ("phase", "first", "seconds"),
    [
        (Phase.IDLE, True, 10),
        (Phase.IDLE, False, 300),
        (Phase.PUT_OFF, False, 1.5),
        (Phase.HEAD, False, 10),
        (Phase.CONNECTING, False, NEVER),
        (Phase.EXPECTING, False, 60),
        (Phase.AWAITING, False, 60),
        (Phase.BODY, False, 10),
        (Phase.ANSWERING, False, 10),
        (Phase.DISCARDING, False, 10),
        (Phase.OVER, False, 10),
    ],
)
def test_each_phase_is_looked_at_in_time(phase: Phase, *, first: bool, seconds: float) -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, phase, 100.0, first=first)
    assert deadlines.earliest == 100 + seconds + TICK


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.PUT_OFF])  # that one is told
@pytest.mark.parametrize("patience", [PATIENCE, Patience(9, 2, 60, 0), Patience(1, 300, 60, 0), Patience(9, 9, 3, 0)])
def test_no_phase_ends_before_the_next_look(phase: Phase, patience: Patience) -> None:
    """Who looks as often as the shortest patience wants it may let phases begin unseen in between."""
    deadlines = Deadlines(patience)
    for first in (True, False):
        enter(deadlines, phase, 100.0, first=first)
        assert deadlines.earliest > 100 + deadlines.shortest
    deadlines.drain(50.0, 100.0)
    assert deadlines.shortest == 0
    enter(deadlines, phase, 101.0, first=False)
    assert deadlines.earliest > 101


@pytest.mark.parametrize(
    ("phase", "moved", "waiting", "due"),
    [
        (Phase.BODY, 4999, QUIET, Due.TIMED_OUT),
        (Phase.BODY, 5000, QUIET, Due.NOTHING),
        (Phase.BODY, 0, UPSTREAM, Due.NOTHING),  # not the caller's fault, and idle is longer
        (Phase.DISCARDING, 4999, QUIET, Due.TIMED_OUT),
        (Phase.ANSWERING, 0, QUIET, Due.NOTHING),  # a service may think
        (Phase.ANSWERING, 4999, CALLER, Due.TIMED_OUT),
        (Phase.ANSWERING, 5000, CALLER, Due.NOTHING),
        (Phase.OVER, 4999, CALLER, Due.TIMED_OUT),
        (Phase.OVER, 5000, CALLER, Due.NOTHING),
    ],
)
def test_who_is_slow_is_judged_by_the_window(phase: Phase, moved: int, waiting: Waiting, due: Due) -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, phase, 0.0, first=False)
    deadlines.moved += moved
    assert deadlines.due(10.0 + TICK, waiting) is due
    if due is Due.NOTHING:
        assert deadlines.due(10.5 + TICK, waiting) is Due.NOTHING  # the next window has begun
        assert deadlines.moved == 0


@pytest.mark.parametrize(("waiting", "due"), [(QUIET, Due.TIMED_OUT), (UPSTREAM, Due.UPSTREAM_STALLED)])
def test_what_stands_still_is_ended_after_idle(waiting: Waiting, due: Due) -> None:
    deadlines = Deadlines(Patience(10, 30, 60, 0))
    enter(deadlines, Phase.BODY, 0.0, first=False)
    deadlines.moved = 1
    told: list[Due] = []
    now = 0.0
    while not told:
        now = deadlines.earliest
        if (found := deadlines.due(now, waiting)) is not Due.NOTHING:
            told.append(found)
    assert told == [due]
    assert 40 <= now < 42  # it moved in the first window


def test_a_short_idle_is_not_stretched_by_the_window() -> None:
    deadlines = Deadlines(Patience(10, 2, 60, 0))
    enter(deadlines, Phase.ANSWERING, 0.0, first=False)
    assert deadlines.due(deadlines.earliest, QUIET) is Due.TIMED_OUT
    assert deadlines.earliest < 5


def test_a_certificate_is_wound_down_once_and_then_cut() -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, Phase.CONNECTING, 0.0, first=False)
    deadlines.live_for(100.0, 0.0)
    assert deadlines.earliest == 70
    assert deadlines.due(70.0, QUIET) is Due.WIND_DOWN
    assert deadlines.earliest == 100
    assert deadlines.due(70.5, QUIET) is Due.NOTHING
    assert deadlines.due(100.0, QUIET) is Due.CUT


def test_a_short_life_is_wound_down_half_way() -> None:
    deadlines = Deadlines(PATIENCE)
    deadlines.live_for(20.0, 0.0)
    assert deadlines.earliest == 10


def test_a_drain_shortens_the_rest_and_never_lengthens_it() -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, Phase.IDLE, 0.0, first=False)
    deadlines.drain(4.0, 0.0)
    deadlines.drain(50.0, 0.0)
    assert deadlines.earliest == 4 + TICK
    enter(deadlines, Phase.HEAD, 3.0, first=False)
    assert deadlines.earliest == 13 + TICK  # who asks is heard out
    enter(deadlines, Phase.IDLE, 9.0, first=False)
    assert deadlines.earliest == 9 + TICK
    assert repr(deadlines) == "<Deadlines IDLE ends=9.25 cut=inf moved=0>"


def test_a_request_has_a_time_from_its_first_byte_to_its_last_whatever_moves() -> None:
    deadlines = Deadlines(Patience(10, 300, 60, 0, request=20))
    enter(deadlines, Phase.ANSWERING, 115.0, first=False)
    deadlines.request_began(100.0)
    deadlines.moved = 1_000_000
    assert deadlines.due(120.0, QUIET) is Due.NOTHING
    assert deadlines.earliest == 120 + TICK
    assert deadlines.due(120 + TICK, QUIET) is Due.TIMED_OUT
    assert deadlines.limit == "request_timeout"
    deadlines.request_began(NEVER)
    assert deadlines.earliest > 121


def test_a_connection_grows_as_old_as_it_may_and_no_older_than_its_certificate() -> None:
    patience = Patience(10, 300, 60, 0, age=100)
    deadlines = Deadlines(patience)
    deadlines.live_for(1000.0, 0.0)
    assert deadlines.ages_by == "max_connection_age"
    assert deadlines.due(70.0, QUIET) is Due.WIND_DOWN
    assert deadlines.limit == "max_connection_age"
    assert deadlines.due(100.0, QUIET) is Due.CUT
    young = Deadlines(patience)
    young.live_for(50.0, 0.0)
    assert (young.ages_by, young.due(25.0, QUIET), young.limit) == ("", Due.WIND_DOWN, "")
    assert young.due(50.0, QUIET) is Due.CUT


@pytest.mark.parametrize(
    ("phase", "first", "limit"),
    [
        (Phase.IDLE, True, "head_timeout"),
        (Phase.IDLE, False, "idle_timeout"),
        (Phase.HEAD, False, "head_timeout"),
        (Phase.EXPECTING, False, "response_timeout"),
        (Phase.AWAITING, False, "response_timeout"),
        (Phase.BODY, False, "body_min_rate"),
        (Phase.DISCARDING, False, "body_min_rate"),
    ],
)
def test_what_runs_out_is_named(phase: Phase, *, first: bool, limit: str) -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, phase, 0.0, first=first)
    assert deadlines.due(deadlines.earliest, QUIET) is Due.TIMED_OUT
    assert deadlines.limit == limit


def test_the_end_of_a_rest_in_a_drain_is_no_limit_reached() -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, Phase.IDLE, 0.0, first=False)
    deadlines.drain(4.0, 0.0)
    assert (deadlines.due(deadlines.earliest, QUIET), deadlines.limit) == (Due.TIMED_OUT, "")


def test_who_rests_as_before_need_not_be_looked_at_closely() -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, Phase.IDLE, 100, first=False)
    assert deadlines.rests(Phase.IDLE, 399, first=False)
    assert not deadlines.rests(Phase.IDLE, 400 + TICK, first=False)  # its time is up
    assert not deadlines.rests(Phase.IDLE, 110, first=True)
    assert not deadlines.rests(Phase.HEAD, 110, first=False)
    deadlines.since = 105  # it asked for something, and rests again
    assert not deadlines.rests(Phase.IDLE, 110, first=False)
    enter(deadlines, Phase.ANSWERING, 110, first=False)
    assert not deadlines.rests(Phase.ANSWERING, 111, first=False)


@pytest.mark.parametrize("end", ["certificate", "drain"])
def test_who_rests_is_looked_at_for_its_certificate_and_in_a_drain(end: str) -> None:
    deadlines = Deadlines(PATIENCE)
    enter(deadlines, Phase.IDLE, 100, first=False)
    if end == "drain":
        deadlines.drain(150, 100)
    else:
        deadlines.live_for(100, 100)  # wound down half a minute before
    assert deadlines.rests(Phase.IDLE, 149, first=False)
    assert not deadlines.rests(Phase.IDLE, 170 + TICK, first=False)
