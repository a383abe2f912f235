from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.runtime.signals import follow_signals
from tests.hearing import listening_log

if TYPE_CHECKING:
    from tests.hearing import Heard


class Followed:
    """Signals followed, and what came of them."""

    def __init__(self) -> None:
        self.log, self.heard = listening_log()
        self.stopping = trio.Event()
        self.reloads = 0
        self.exits = 0

    def reload(self) -> None:
        self.reloads += 1

    def exit_now(self) -> None:
        self.exits += 1

    async def send(self, *signals: signal.Signals) -> Heard:
        for each in signals:
            signal.raise_signal(each)
            await trio.testing.wait_all_tasks_blocked(0.005)
        return self.heard


@pytest.fixture
async def followed(nursery: trio.Nursery) -> Followed:
    made = Followed()
    await nursery.start(follow_signals, made.stopping, made.reload, made.exit_now, made.log)
    return made


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_drains_and_the_second_exits_at_once(
    followed: Followed, first: signal.Signals, second: signal.Signals
) -> None:
    await followed.send(first)
    assert (followed.stopping.is_set(), followed.exits) == (True, 0)
    await followed.send(second)
    assert followed.exits == 1
    assert [(e["event"], e["signal"]) for e in followed.heard.events] == [
        ("draining", first.name),
        ("exiting_at_once", second.name),
    ]


async def test_sighup_looks_at_the_files_again_until_the_drain(followed: Followed) -> None:
    await followed.send(signal.SIGHUP, signal.SIGHUP)
    assert followed.reloads == 2
    await followed.send(signal.SIGTERM, signal.SIGHUP)
    assert (followed.reloads, followed.exits) == (2, 0)
    assert followed.heard.names[-1] == "signal_ignored"
