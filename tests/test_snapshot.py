from __future__ import annotations

import trio
import trio.testing

from meshproxy.snapshot import Snapshot


async def test_a_swap_is_seen_at_once_and_counted() -> None:
    held = Snapshot("a")
    assert (held.value, held.generation) == ("a", 1)
    held.replace("b")
    assert (held.value, held.generation) == ("b", 2)
    assert repr(held) == "<Snapshot generation=2 'b'>"


async def test_everybody_who_waits_is_woken_by_the_next_value() -> None:
    held = Snapshot(0)
    woken: list[int] = []

    async def wait(generation: int) -> None:
        woken.append(await held.newer_than(generation))

    async with trio.open_nursery() as nursery:
        for generation in (1, 1, 2, 3):
            nursery.start_soon(wait, generation)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        held.replace(1)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [2, 2]
        held.replace(2)
        held.replace(3)  # who waits may miss values between, never the last
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [2, 2, 4, 4]


async def test_who_is_behind_does_not_wait() -> None:
    held = Snapshot(0)
    held.replace(1)
    with trio.fail_after(0.1):
        assert await held.newer_than(1) == 2
        assert await held.newer_than(0) == 2
