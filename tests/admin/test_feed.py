"""The stream of events: everyone at his own place in one ring, and nothing kept for who does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.admin.feed import Feed, FellBehind

if TYPE_CHECKING:
    from trio.testing import MockClock

FIRST = 1_800_000_000_000


def greeting() -> bytes:
    return b"{}"


class Listener:
    """Hears what it is sent; blocks while it is `held`."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.goes_on = trio.Event()
        self.goes_on.set()
        self.fell_behind = False

    async def send(self, part: bytes) -> None:
        await self.goes_on.wait()
        self.heard += [event for event in part.split(b"\n\n") if event]

    async def listen(self, feed: Feed, last_seen: int | None = None) -> None:
        try:
            await feed.pour(self.send, last_seen, greeting)
        except FellBehind:
            self.fell_behind = True

    @property
    def ids(self) -> list[int]:
        return [int(event.split(b"\n")[0][4:]) - FIRST for event in self.heard if event.startswith(b"id: ")]


async def test_who_listens_is_greeted_and_told_what_happens(nursery: trio.Nursery) -> None:
    feed, listener = Feed(FIRST / 1000), Listener()
    feed.tell("marker", b"old news")
    nursery.start_soon(listener.listen, feed)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.heard == [b"retry: 2000", b"event: state\ndata: {}"]
    feed.tell("tick", b'{"now":1}')
    feed.tell("marker", b'{"at":1}')
    await trio.testing.wait_all_tasks_blocked()
    assert listener.heard[2:] == [
        b'id: 1800000000002\nevent: tick\ndata: {"now":1}',
        b'id: 1800000000003\nevent: marker\ndata: {"at":1}',
    ]
    nursery.cancel_scope.cancel()


async def test_who_comes_back_hears_what_was_between(nursery: trio.Nursery) -> None:
    feed, listener = Feed(FIRST / 1000), Listener()
    for _ in range(5):
        feed.tell("tick", b"{}")
    nursery.start_soon(listener.listen, feed, FIRST + 2)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.ids == [3, 4, 5]
    assert not any(b"gap" in event for event in listener.heard)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("last_seen", [0, FIRST + 10, FIRST - 1, FIRST + 5000])
async def test_who_has_missed_what_is_gone_is_told_so(last_seen: int, nursery: trio.Nursery) -> None:
    feed, listener = Feed(FIRST / 1000), Listener()
    for _ in range(1000):
        feed.tell("tick", b"{}")
    nursery.start_soon(listener.listen, feed, last_seen)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.heard[2:] == [b'event: gap\ndata: {"after":%d}' % last_seen]
    feed.tell("tick", b"{}")
    await trio.testing.wait_all_tasks_blocked()
    assert listener.ids == [1001]
    nursery.cancel_scope.cancel()


async def test_who_does_not_read_falls_behind_and_nothing_is_kept_for_him(nursery: trio.Nursery) -> None:
    feed, listener, other = Feed(FIRST / 1000), Listener(), Listener()
    nursery.start_soon(listener.listen, feed)
    nursery.start_soon(other.listen, feed)
    await trio.testing.wait_all_tasks_blocked()
    listener.goes_on = trio.Event()
    feed.tell("tick", b"{}")
    await trio.testing.wait_all_tasks_blocked()  # it is sent this one, and does not take it
    for _ in range(2000):
        feed.tell("tick", b"{}")
        await trio.testing.wait_all_tasks_blocked()
    listener.goes_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.fell_behind
    assert other.ids == list(range(1, 2002))
    assert feed.listeners == 1
    nursery.cancel_scope.cancel()


async def test_the_ring_is_bounded_in_bytes_too() -> None:
    feed = Feed(FIRST / 1000)
    for _ in range(100):
        feed.tell("tick", b"x" * 50_000)
    assert sum(len(frame) for _, frame in feed._events) <= 1 << 20
    assert feed._bytes == sum(len(frame) for _, frame in feed._events)


async def test_what_nobody_could_hear_is_a_gap(nursery: trio.Nursery) -> None:
    feed, listener = Feed(FIRST / 1000), Listener()
    feed.tell("tick", b"{}")
    feed.pass_over()
    nursery.start_soon(listener.listen, feed, FIRST + 1)
    await trio.testing.wait_all_tasks_blocked()
    assert b"event: gap" in listener.heard[2]
    nursery.cancel_scope.cancel()


async def test_there_is_room_for_so_many(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    feed = Feed(FIRST / 1000, most_listeners=2)
    assert (feed.is_heard, feed.is_full) == (False, False)
    async with trio.open_nursery() as listening:
        for _ in range(2):
            listening.start_soon(Listener().listen, feed)
            await trio.testing.wait_all_tasks_blocked()
        assert (feed.is_heard, feed.is_full) == (True, True)
        listening.cancel_scope.cancel()
    assert feed.listeners == 0
    assert feed.is_heard, "he may be back in a moment"
    await trio.sleep(61)
    assert (feed.is_heard, feed.is_full) == (False, False)
