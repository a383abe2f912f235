"""Three ways to close, told apart by what the far end sees."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.closing import delivered, linger, reset
from meshproxy.wire.tls import receive

if TYPE_CHECKING:
    from tests.wire.conftest import Wires


def test_reset_is_heard_as_a_reset(wires: Wires) -> None:
    near, far = wires.tcp()
    reset(near)
    assert near.fileno() == -1
    with pytest.raises(ConnectionResetError):
        far.recv(1)


def test_reset_closes_a_unix_socket_which_knows_none(wires: Wires) -> None:
    near, far = wires.unix()
    reset(near)
    assert far.recv(1) == b""


def test_reset_of_a_closed_socket_does_nothing(wires: Wires) -> None:
    near, _far = wires.tcp()
    near.close()
    reset(near)


async def test_lingering_lets_the_last_word_arrive_although_the_peer_still_talks(wires: Wires) -> None:
    near, far = wires.tcp()
    far.send(bytes(10_000))  # unread: a plain close would destroy the alert below
    near.send(b"alert")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(linger, near)
        assert await receive(far, 100) == b"alert"
        assert await receive(far, 100) == b""
        far.close()
    assert near.fileno() == -1


async def test_lingering_ends_after_a_second_when_the_peer_stays(
    wires: Wires, settling_clock: trio.testing.MockClock
) -> None:
    near, far = wires.tcp()
    started = trio.current_time()
    await linger(near)
    assert 1.0 <= trio.current_time() - started < 1.5
    assert near.fileno() == -1
    assert far.recv(1) == b""


async def test_lingering_discards_a_bounded_amount_of_talk(wires: Wires) -> None:
    near, far = wires.tcp()
    sent = 0

    async def talk() -> None:
        nonlocal sent
        try:
            while True:
                try:
                    sent += far.send(bytes(16384))
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(far)
                await trio.lowlevel.checkpoint()
        except OSError:
            return  # closed, at last

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            nursery.start_soon(linger, near)
    assert sent >= 64 * 1024


async def test_lingering_on_a_broken_connection_just_closes(wires: Wires) -> None:
    near, far = wires.tcp()
    reset(far)
    await linger(near)
    assert near.fileno() == -1


async def test_cancelling_a_linger_closes(wires: Wires) -> None:
    near, _far = wires.tcp()
    with trio.move_on_after(0) as scope:
        await linger(near)
    assert scope.cancelled_caught
    assert near.fileno() == -1


async def test_delivered_means_that_a_reset_destroys_nothing(wires: Wires) -> None:
    """The far end may still read what was sent only if it has it; the kernel tells when."""
    near, far = wires.tcp()
    near.send(b"all of it")
    with trio.fail_after(1):
        await delivered(near)
    assert far.recv(100, socket.MSG_PEEK) == b"all of it"


async def test_waiting_for_delivery_is_bounded(wires: Wires, autojump_clock: trio.testing.MockClock) -> None:
    near, _far = wires.tcp(small=True)
    with suppress(BlockingIOError):
        while near.send(bytes(65536)):
            pass
    started = trio.current_time()
    await delivered(near)
    assert 1.0 <= trio.current_time() - started < 1.5


async def test_what_a_unix_socket_was_given_is_delivered_already(wires: Wires) -> None:
    near, far = wires.unix()
    near.send(b"unread")
    await delivered(near)
    near.close()
    assert far.recv(100) == b"unread"


async def test_delivery_on_a_closed_socket_does_not_raise(wires: Wires) -> None:
    near, far = wires.tcp()
    reset(far)
    await delivered(near)


async def test_lingering_ends_when_the_place_is_wanted_by_somebody_else(wires: Wires) -> None:
    """Losing one's place in the waiting room wakes whoever waits for the socket as if it had been closed."""
    near, far = wires.tcp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(linger, near)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(near)
    assert near.fileno() == -1
    assert far.recv(1) == b""
