"""Deadlines on a coarse clock: never early, at most two ticks late, and nobody is called after leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.wire.sweep import TICK, Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


class Item:
    def __init__(self, deadline: float, act: Callable[[Item, float], None]) -> None:
        self.deadline = deadline
        self.act = act
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.act(self, now)


def forever(item: Item, _now: float) -> None:
    item.deadline = float("inf")


async def test_a_deadline_is_never_early_and_hardly_late(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    items = []
    for number in range(40):
        await trio.sleep(0.07)
        set_at = trio.current_time()
        item = Item(sweeper.now + 1 + number / 10 + TICK, forever)
        items.append((item, set_at + 1 + number / 10))
        sweeper.add(item)
    await trio.sleep(10)
    for item, due in items:
        [expired] = item.expired
        assert due <= expired <= due + 2 * TICK


async def test_an_item_may_set_itself_another_deadline(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)

    def again(item: Item, now: float) -> None:
        item.deadline = now + 1

    item = Item(sweeper.now + 1 + TICK, again)
    sweeper.add(item)
    await trio.sleep(5)
    assert len(item.expired) == 4


async def test_who_has_left_is_not_called_even_in_the_same_turn(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)

    def take_all_away(_item: Item, _now: float) -> None:
        for each in items:
            sweeper.discard(each)

    items = [Item(sweeper.now + 1 + TICK, take_all_away) for _ in range(2)]
    for item in items:
        sweeper.add(item)
    sweeper.discard(Item(0, forever))  # unknown: nothing happens
    await trio.sleep(3)
    assert sum(len(item.expired) for item in items) == 1
    assert repr(sweeper) == "<Sweeper items=0>"
