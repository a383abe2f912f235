"""Whose turn it is to accept, when several processes are woken by each connection; one page, mapped several times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.wire.occupancy import Occupancy, SharedOccupancy, make_page, vacate

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


@pytest.fixture
def page() -> Iterator[int]:
    descriptor = make_page(3)
    yield descriptor
    os.close(descriptor)


def enter(occupancy: Occupancy, times: int) -> None:
    for _ in range(times):
        occupancy.enter()


def test_alone_it_is_always_our_turn() -> None:
    alone = Occupancy()
    enter(alone, 1000)
    alone.leave()
    assert (alone.mine, alone.total, alone.turn()) == (999, 999, 64)


def test_all_see_what_each_holds(page: int) -> None:
    first, second = SharedOccupancy(page, 0, 3), SharedOccupancy(page, 2, 3)
    enter(first, 5)
    enter(second, 3)
    second.leave()
    assert (first.total, second.total, second.mine) == (7, 7, 2)
    assert repr(first) == "<SharedOccupancy 5 of 7>"


@pytest.mark.parametrize(
    ("mine", "others", "turn"),
    [
        (0, (0, 0), 1),
        (1, (0, 5), 0),
        (1, (1, 1), 1),
        (0, (5, 3), 4),
        (16, (16, 16), 2),  # an eighth
        (800, (800, 900), 64),
        (900, (800, 900), 0),
        (0, (800, 900), 64),
    ],
)
def test_whoever_holds_more_lets_others_go_first(page: int, mine: int, others: tuple[int, int], turn: int) -> None:
    ours, *theirs = (SharedOccupancy(page, slot, 3) for slot in range(3))
    enter(ours, mine)
    for each, count in zip(theirs, others, strict=True):
        enter(each, count)
    assert ours.turn() == turn


def test_who_does_not_accept_is_nobody_to_wait_for(page: int) -> None:
    """Neither one that has not begun nor one that has ended; its connections have ended with it."""
    first = SharedOccupancy(page, 0, 3)
    enter(first, 10)
    assert first.turn() == 64
    second = SharedOccupancy(page, 1, 3)
    assert (first.turn(), second.turn()) == (0, 11)
    vacate(page, 1, 3)
    assert (first.turn(), first.total) == (64, 10)
    assert SharedOccupancy(page, 1, 3).mine == 0


@given(st.integers(2, 5), st.integers(0, 2000), st.randoms(use_true_random=False))
def test_a_burst_is_split_evenly_in_whatever_order_they_are_woken(
    sharers: int, burst: int, order: random.Random
) -> None:
    page = make_page(sharers)
    try:
        workers = [SharedOccupancy(page, slot, sharers) for slot in range(sharers)]
        left = burst
        while left:
            worker = order.choice(workers)
            taken = min(worker.turn(), left)
            enter(worker, taken)
            left -= taken
        most, fewest = max(w.mine for w in workers), min(w.mine for w in workers)
        assert workers[0].total == burst
        assert most - fewest <= max(1, most // 8 + 1)
    finally:
        os.close(page)
