"""A machine that has no thread to give is waited for; what is done in one comes back as it was."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_what_the_work_returns_or_raises_comes_back() -> None:
    def fail() -> None:
        raise RuntimeError("its own")

    assert await in_thread(divmod, 7, 3) == (2, 1)
    with pytest.raises(RuntimeError, match="its own"):
        await in_thread(fail)


async def test_where_no_thread_starts_it_is_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = trio.to_thread.run_sync, list[float]()

    async def poor(*arguments: object, **options: object) -> object:
        tries.append(trio.current_time())
        if len(tries) < 4:
            raise RuntimeError("can't start new thread")
        return await real(*arguments, **options)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(trio.to_thread, "run_sync", poor)
    with trio.fail_after(60):
        assert await in_thread(lambda: "done") == "done"
    assert len(tries) == 4
    assert tries[-1] > tries[0]


async def test_who_waits_for_a_thread_can_give_up(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_arguments: object, **_options: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", none)
    with trio.move_on_after(5) as scope:
        await in_thread(threading.Event().wait)
    assert scope.cancelled_caught
