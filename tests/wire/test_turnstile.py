"""One step of a handshake per turn of the loop, in order, and nobody waits where there is no crowd."""

from __future__ import annotations

import time
from functools import partial

import pytest
import trio
import trio.testing

from meshproxy.wire.turnstile import Turnstile

CROWD = 50


def arithmetic() -> None:
    until = time.perf_counter() + 0.0002
    while time.perf_counter() < until:
        pass


async def test_a_crowd_passes_in_order_with_everybody_else_in_between(nursery: trio.Nursery) -> None:
    turnstile, turns, passed = Turnstile(), [0], list[tuple[int, int]]()

    async def loop() -> None:
        while True:
            turns[0] += 1
            await trio.lowlevel.checkpoint()

    waited = []

    async def shake(number: int) -> None:
        waited.append(await turnstile.enter())
        passed.append((number, turns[0]))
        arithmetic()
        turnstile.leave()

    nursery.start_soon(loop)
    for number in range(CROWD):
        nursery.start_soon(shake, number)
    while len(passed) < CROWD:
        await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()
    in_turns = [turn for _, turn in passed]
    assert sorted(number for number, _ in passed) == list(range(CROWD))
    assert max(in_turns.count(turn) for turn in set(in_turns)) <= 2  # trio takes those of one turn in any order
    assert repr(turnstile) == "<Turnstile waiting=0>"
    assert waited[0] == 0.0
    assert waited[-1] > (CROWD - 2) * 0.0002, "the last has waited for all others"


async def test_who_is_in_the_middle_goes_before_those_who_begin(nursery: trio.Nursery) -> None:
    turnstile, passed = Turnstile(), list[str]()

    async def step(who: str, *, newcomer: bool) -> None:
        await turnstile.enter(newcomer=newcomer)
        passed.append(who)
        turnstile.leave()
        turnstile._passed_at += 1  # somebody has always just passed, however slow this machine is

    turnstile._passed_at = time.perf_counter() + 1
    for _ in range(CROWD):
        nursery.start_soon(partial(step, "begins", newcomer=True))
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    before = len(passed)
    nursery.start_soon(partial(step, "goes on", newcomer=False))
    while "goes on" not in passed:
        await trio.lowlevel.checkpoint()
    assert passed.index("goes on") <= before + 2
    while len(passed) <= CROWD:
        await trio.lowlevel.checkpoint()
    assert repr(turnstile) == "<Turnstile waiting=0>"


async def test_alone_it_is_passed_without_waiting() -> None:
    turnstile = Turnstile()
    with trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(3):
            assert await turnstile.enter() == 0.0  # no checkpoint, so the cancel is not noticed
            turnstile.leave()
            time.sleep(0.001)  # noqa: ASYNC251 - no other task may run
    assert not scope.cancelled_caught


@pytest.mark.parametrize("given_up", [0, 1, 4])
async def test_who_gives_up_holds_nobody_up(nursery: trio.Nursery, given_up: int) -> None:
    turnstile, passed = Turnstile(), list[int]()
    scopes = [trio.CancelScope() for _ in range(5)]

    async def shake(number: int) -> None:
        with scopes[number]:
            await turnstile.enter()
            passed.append(number)
            turnstile.leave()

    turnstile.leave()  # somebody has just passed
    for number in range(5):
        nursery.start_soon(shake, number)
        turnstile._passed_at = time.perf_counter()
    scopes[given_up].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted({*passed, given_up}) == list(range(5))
    turnstile._passed_at = time.perf_counter()
    await turnstile.enter()
    assert repr(turnstile) == "<Turnstile waiting=0>"
