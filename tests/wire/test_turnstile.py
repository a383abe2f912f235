"""Steps of handshakes: in order, some in a row while nobody else has work, and one by one while somebody has."""

from __future__ import annotations

import ssl
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.epoll_readiness import _LONG_TURN, EpollReadiness
from meshproxy.wire.turnstile import Step, Turnstile

if TYPE_CHECKING:
    from meshproxy.wire.readiness import Readiness

CROWD = 80
EFFORT = 0.0005  # seconds


class Session:
    """Has so much to do for each step, and says when."""

    def __init__(self, name: str, passed: list[str], error: Exception | None = None) -> None:
        self._name = name
        self._passed = passed
        self._error = error

    def do_handshake(self) -> None:
        until = time.perf_counter() + EFFORT
        while time.perf_counter() < until:
            pass
        self._passed.append(self._name)
        if self._error is not None:
            raise self._error


class Nothing:
    """Has next to nothing to do."""

    def do_handshake(self) -> None:
        raise ssl.SSLWantReadError


class Crowd:
    """Those who shake hands."""

    def __init__(self, turnstile: Turnstile, nursery: trio.Nursery) -> None:
        self.turnstile = turnstile
        self.nursery = nursery
        self.passed: list[str] = []
        self.waited: list[float] = []

    def comes(self, name: str, *, newcomer: bool = False) -> None:
        self.nursery.start_soon(self._shake, name, newcomer)

    async def _shake(self, name: str, newcomer: bool) -> None:  # noqa: FBT001 - trio takes no keywords
        step = Step(Session(name, self.passed))
        await self.turnstile.wait_for(step, newcomer=newcomer)
        assert step.is_last()
        self.waited.append(step.waited)

    async def has_passed(self, count: int) -> None:
        while len(self.waited) < count:
            await trio.lowlevel.checkpoint()


@pytest.fixture
def crowd(engine: Readiness, nursery: trio.Nursery) -> Crowd:
    return Crowd(Turnstile(engine), nursery)


async def test_they_pass_in_the_order_in_which_they_came(crowd: Crowd) -> None:
    for number in range(CROWD):
        crowd.comes(f"{number}")
        await trio.lowlevel.checkpoint()
    await crowd.has_passed(CROWD)
    assert crowd.passed == [f"{number}" for number in range(CROWD)]
    assert max(crowd.waited) > EFFORT, "somebody has waited for others"
    assert repr(crowd.turnstile) == "<Turnstile waiting=0>"


async def test_while_others_have_work_a_step_is_done_now_and_then(nursery: trio.Nursery) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    crowd = Crowd(Turnstile(engine), nursery)
    turns: list[int] = []
    for number in range(CROWD):
        crowd.comes(f"{number}")
    while len(crowd.passed) < CROWD:
        turns.append(len(crowd.passed))
        await trio.lowlevel.checkpoint()  # a task that always has more to do
    steps = [after - before for before, after in pairwise(turns)]
    assert max(steps) == 1
    assert sum(1 for step in steps if not step) > 2 * CROWD, "in between the others had most of the time"


async def test_while_nobody_else_has_work_some_are_done_in_a_row(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    crowd, rows = Crowd(Turnstile(engine), nursery), list[int]()
    let_pass = crowd.turnstile._let_pass

    def counted(until: float) -> None:
        before = len(crowd.passed)
        let_pass(until)
        rows.append(len(crowd.passed) - before)

    monkeypatch.setattr(crowd.turnstile, "_let_pass", counted)
    for number in range(CROWD):
        crowd.comes(f"{number}")
    with trio.fail_after(5):
        while len(crowd.waited) < CROWD:
            await trio.testing.wait_all_tasks_blocked()
    assert sum(rows) == CROWD
    assert 1 < max(rows) <= _LONG_TURN / EFFORT + 1, "some, but not for longer than one may have to wait"


async def test_who_is_in_the_middle_and_has_little_to_do_again_and_again_keeps_nobody_out(
    nursery: trio.Nursery,
) -> None:
    """A peer that says its next words byte by byte has a step for each, and each goes before newcomers."""
    engine = EpollReadiness()
    await nursery.start(engine.run)
    crowd, drips = Crowd(Turnstile(engine), nursery), [0]

    async def drip() -> None:
        while True:
            await crowd.turnstile.wait_for(Step(Nothing()), newcomer=False)
            drips[0] += 1

    nursery.start_soon(drip)
    await trio.lowlevel.checkpoint()
    crowd.comes("newcomer", newcomer=True)
    with trio.fail_after(5):
        while not crowd.waited:
            await trio.lowlevel.checkpoint()  # a task that always has more to do
    assert drips[0] <= 3


async def test_who_is_in_the_middle_goes_before_those_who_begin(crowd: Crowd) -> None:
    for number in range(CROWD):
        crowd.comes(f"begins {number}", newcomer=True)
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    before = len(crowd.passed)
    crowd.comes("goes on")
    await crowd.has_passed(CROWD + 1)
    assert crowd.passed.index("goes on") <= before + _LONG_TURN / EFFORT + 2
    assert crowd.passed.index("goes on") < CROWD


@pytest.mark.parametrize("given_up", [0, 1, 4])
async def test_who_gives_up_holds_nobody_up(crowd: Crowd, nursery: trio.Nursery, given_up: int) -> None:
    scopes = [trio.CancelScope() for _ in range(5)]

    async def shake(number: int) -> None:
        with scopes[number]:
            await crowd.turnstile.wait_for(Step(Session(f"{number}", crowd.passed)), newcomer=False)

    for number in range(5):
        nursery.start_soon(shake, number)
    scopes[given_up].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert {*crowd.passed, f"{given_up}"} == {f"{number}" for number in range(5)}
    assert repr(crowd.turnstile) == "<Turnstile waiting=0>"


async def test_what_goes_wrong_is_raised_where_the_step_is_waited_for(crowd: Crowd) -> None:
    steps = [
        Step(Session("wants more", crowd.passed, ssl.SSLWantReadError())),
        Step(Session("fails", crowd.passed, ssl.SSLError(1, "[SSL] bad"))),
        Step(Session("is over", crowd.passed)),
    ]
    for step in steps:
        await crowd.turnstile.wait_for(step, newcomer=False)
    assert not steps[0].is_last()
    with pytest.raises(ssl.SSLError, match="bad"):
        steps[1].is_last()
    assert steps[2].is_last()
