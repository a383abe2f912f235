"""Frames between two processes, over a real socket pair: whole, in order, with their descriptors, or broken."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.errors import Problem
from meshproxy.runtime.control import (
    Abort,
    Answer,
    Broken,
    Channel,
    Commit,
    Cut,
    Drain,
    File,
    Hello,
    LookAtIdentity,
    Order,
    Prepare,
    Tell,
    Word,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

ORDERS: list[Order] = [
    File(b"/etc/\xff.toml", b"x" * 300_000),
    Prepare(1, 7, (("inbound", "api"), ("outbound", "ledger"))),
    Commit(2),
    Abort(),
    Tell(3),
    LookAtIdentity(),
    Drain(),
    Cut(),
]


@dataclass
class Pair:
    """A supervisor's end and a worker's."""

    leads: Channel[Word]
    follows: Channel[Order]
    raw: socket.socket  # the supervisor's end, as the worker's process would feel it


@pytest.fixture
async def pair(nursery: trio.Nursery) -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    made = Pair(Channel(ours, Word), Channel(theirs, Order), ours)
    nursery.start_soon(made.leads.run)
    nursery.start_soon(made.follows.run)
    yield made
    nursery.cancel_scope.cancel()
    made.leads.close()
    made.follows.close()


async def hear(channel: Channel[Order]) -> Order | None:
    with trio.fail_after(5):
        return await channel.hear()


async def test_what_is_said_is_heard_in_order_and_whole(pair: Pair) -> None:
    for order in ORDERS:
        pair.leads.say(order)
    assert [await hear(pair.follows) for _ in ORDERS] == ORDERS


async def test_words_go_the_other_way(pair: Pair) -> None:
    words: list[Word] = [Hello("1.0"), Answer(3, (Problem("a.toml", "x", "y", "z", 3, "inbound[0]"),)), Answer(4)]
    for word in words:
        pair.follows.say(word)
    with trio.fail_after(5):
        assert [await pair.leads.hear() for _ in words] == words


@pytest.mark.parametrize("count", [1, 2, 200, 201, 700])
async def test_descriptors_come_with_the_frame_they_were_sent_with(pair: Pair, tmp_path: Path, count: int) -> None:
    """Also more than the kernel passes at once."""
    file = tmp_path / "file"
    file.write_bytes(b"here")
    with file.open("rb") as opened:
        pair.leads.say(Drain())
        pair.leads.say(Prepare(1, 1, ()), [opened.fileno()] * count)
        pair.leads.say(Cut())
        await hear(pair.follows)
        assert await hear(pair.follows) == Prepare(1, 1, ())
        got = pair.follows.take_descriptors()
        assert await hear(pair.follows) == Cut()
    assert len(got) == count
    assert not any(map(os.get_inheritable, got))
    assert os.pread(got[-1], 10, 0) == b"here"
    for each in got:
        os.close(each)


async def test_what_was_sent_may_be_closed_at_once(pair: Pair) -> None:
    reading, writing = os.pipe()
    pair.leads.say(Prepare(1, 1, ()), [writing])
    os.close(writing)
    await hear(pair.follows)
    (got,) = pair.follows.take_descriptors()
    os.write(got, b"x")
    os.close(got)
    assert os.read(reading, 1) == b"x"
    os.close(reading)


async def test_descriptors_nobody_takes_are_closed_at_the_end(pair: Pair) -> None:
    reading, writing = os.pipe()
    pair.leads.say(Prepare(1, 1, ()), [writing])
    await hear(pair.follows)
    pair.leads.say(Prepare(2, 1, ()), [writing])  # not even received
    os.close(writing)
    pair.leads.close()
    pair.follows.close()
    await trio.testing.wait_all_tasks_blocked()
    assert os.read(reading, 1) == b""  # no copy is open anywhere
    os.close(reading)


async def test_the_end_of_the_other_process_is_heard_behind_its_last_word(pair: Pair) -> None:
    pair.leads.say(Drain())
    await pair.leads.flush()
    pair.leads.close()
    assert await hear(pair.follows) == Drain()
    assert await hear(pair.follows) is None
    pair.leads.say(Cut())  # nobody is there any more: lost
    pair.follows.say(Hello("1"))
    await pair.follows.flush()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"\x00\x00\x00\x01\xc1", "MessagePack"),
        (b"\x00\x00\x00\x08\x81\xa4type\xa1x", "Invalid value"),
    ],
)
async def test_what_is_no_message_is_broken(pair: Pair, raw: bytes, why: str) -> None:
    pair.raw.send(raw)
    with pytest.raises(Broken, match=why):
        await hear(pair.follows)


async def test_a_process_that_reads_nothing_is_found_out(nursery: trio.Nursery, settling_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    channel: Channel[Word] = Channel(ours, Word)
    nursery.start_soon(channel.run)

    async def talk() -> None:
        for _ in range(100):
            for _ in range(100):
                channel.say(File(b"f", bytes(1000)))
            await trio.sleep(1)

    with theirs, pytest.raises(Broken, match="reads nothing"):
        await talk()
    nursery.cancel_scope.cancel()
    channel.close()
