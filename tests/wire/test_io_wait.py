"""Standing in for trio's wait: it passes for trio's own, and is not tried where trio is not as expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio._core import _run

from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.io_wait import IoWait, in_trios_place

if TYPE_CHECKING:
    import socket

    from trio.testing import MockClock

    from tests.wire.conftest import Wires


def manager() -> object:
    return _run.GLOBAL_RUN_CONTEXT.runner.io_manager


def never(_timeout: float) -> bool:
    raise AssertionError


async def test_the_place_is_taken_once_and_given_back(nursery: trio.Nursery) -> None:
    before = manager()
    await nursery.start(EpollReadiness().run)
    assert isinstance(manager(), IoWait)
    with in_trios_place(never) as second:
        assert second is None
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await trio.testing.wait_all_tasks_blocked()
    assert manager() is before


async def test_a_manager_that_lacks_something_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshproxy.wire.io_wait._USED", ("of_another_trio",))
    before = manager()
    with in_trios_place(never) as wait:
        assert wait is None
        assert manager() is before


async def test_a_deadline_is_met_while_sockets_have_news_all_the_time(wires: Wires, nursery: trio.Nursery) -> None:
    """Two handlers that write to each other leave the engine nothing to wait for; trio's clock goes on all the same."""
    engine = EpollReadiness()
    await nursery.start(engine.run)
    near, far = wires.unix()
    turns = 0

    def bounce(sock: socket.socket) -> None:
        def handler(_events: int) -> bool:
            nonlocal turns
            turns += 1
            sock.send(sock.recv(1))
            return True

        engine.watch(sock, handler)

    bounce(near)
    bounce(far)
    near.send(b"x")
    with trio.fail_after(5):
        await trio.sleep(0.05)
        await trio.to_thread.run_sync(lambda: None)
    assert turns > 100
    engine.forget(near)
    engine.forget(far)


async def test_a_callback_wakes_a_task_that_waits_without_a_deadline(wires: Wires, nursery: trio.Nursery) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    near, far = wires.unix()
    heard = trio.Event()

    def handler(_events: int) -> bool:
        heard.set()
        return True

    engine.watch(near, handler)
    await trio.to_thread.run_sync(far.send, b"x")
    await heard.wait()
    engine.forget(near)


async def test_a_virtual_clock_jumps_only_when_no_socket_has_news(
    wires: Wires, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine = EpollReadiness()
    await nursery.start(engine.run)
    near, far = wires.unix()
    left, heard_at = 200, 0.0

    def handler(_events: int) -> bool:
        nonlocal left, heard_at
        near.recv(1)
        heard_at = trio.current_time()
        left -= 1
        if left:
            far.send(b"x")
        return True

    engine.watch(near, handler)
    began = trio.current_time()
    far.send(b"x")
    await trio.sleep(3600)
    assert left == 0
    assert heard_at == began
    assert trio.current_time() >= began + 3600
    engine.forget(near)
    del autojump_clock


async def test_a_handler_that_raises_ends_the_engine_and_no_more(wires: Wires) -> None:
    """It must not; but whoever runs the engine is told of it as of any error, and trio goes on."""
    near, far = wires.unix()

    def handler(_events: int) -> bool:
        raise ZeroDivisionError

    engine = EpollReadiness()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            engine.watch(near, handler)
            far.send(b"x")
            await trio.sleep_forever()
    await trio.lowlevel.checkpoint()
    assert not isinstance(manager(), IoWait)
