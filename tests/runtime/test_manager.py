"""What a service manager hears, word by word, and that a missing or busy one holds nothing up."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.runtime.manager import Manager, notify_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

PID = 77


class Ear:
    """The socket of a service manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self.sock.setblocking(False)

    def heard(self) -> list[list[str]]:
        found = []
        while True:
            try:
                found.append(self.sock.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    made = Ear(
        str(tmp_path / "notify") if request.param == "path" else f"@meshproxy-test-{tmp_path.name}-{os.getpid()}"
    )
    with made.sock:
        yield made


def manager_of(ear: Ear, **more: str) -> Manager:
    return Manager.of({"NOTIFY_SOCKET": ear.name, **more}, PID)


def test_a_life_is_told_word_by_word(ear: Ear) -> None:
    manager = manager_of(ear)
    manager.ready("serving 2 listeners")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with manager.reloading(lambda: "serving 3 listeners"):
        pass
    manager.stopping("draining", within=40.5)
    manager.close()
    first, reloading, reloaded, stopping = ear.heard()
    assert first == ["READY=1", "STATUS=serving 2 listeners"]
    assert reloading[0] == "RELOADING=1"
    key, _, at = reloading[1].partition("=")
    assert key == "MONOTONIC_USEC"
    assert before <= int(at) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert reloaded == ["READY=1", "STATUS=serving 3 listeners"]
    assert stopping == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=40500000", "STATUS=draining"]


def test_who_has_taken_over_says_so_and_who_was_taken_over_nothing_more(ear: Ear) -> None:
    heir, old = manager_of(ear), manager_of(ear)
    old.fall_silent()
    old.stopping("draining", within=1)
    heir.ready("serving", main=True)
    assert ear.heard() == [[f"MAINPID={os.getpid()}", "READY=1", "STATUS=serving"]]
    heir.close()
    old.close()


def test_a_status_is_one_line_and_bounded(ear: Ear) -> None:
    manager = manager_of(ear)
    manager.status("one\nMAINPID=1\r\ntwo" + " x" * 1000)
    ((line,),) = ear.heard()
    assert line.startswith("STATUS=one MAINPID=1 two x")
    assert len(line) <= 507
    manager.close()


def test_the_variables_are_forgotten(ear: Ear) -> None:
    environment = {"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(PID), "HOME": "/"}
    manager = Manager.of(environment, PID)
    assert environment == {"HOME": "/"}
    assert manager.watchdog == 2.0
    manager.close()


@pytest.mark.parametrize(
    ("interval", "pid", "seconds"),
    [
        ("2000000", "", 2.0),
        ("2000000", str(PID), 2.0),
        ("2000000", "1", None),
        ("x", "", None),
        ("-5", "", None),
        ("0", "", None),
        ("", "", None),
    ],
)
def test_a_watchdog_is_ours_or_none(ear: Ear, interval: str, pid: str, seconds: float | None) -> None:
    manager = manager_of(ear, WATCHDOG_USEC=interval, WATCHDOG_PID=pid)
    assert manager.watchdog == seconds
    manager.close()


async def test_it_says_that_it_lives_at_half_of_the_time(ear: Ear, autojump_clock: MockClock) -> None:
    del autojump_clock
    manager = manager_of(ear, WATCHDOG_USEC="10000000")
    with trio.move_on_after(14):
        await manager.beat()
    assert ear.heard() == [["WATCHDOG=1"]] * 3  # at 0, 5 and 10 s
    manager.close()


@pytest.mark.parametrize("name", ["", "relative", "@", "vsock:2:1234"])
def test_a_name_that_is_no_unix_socket_means_nobody(name: str) -> None:
    assert notify_address(name) is None


async def test_nobody_there_is_nobody_told(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        manager = Manager.of(dict(environment), PID)
        manager.ready("serving")
        with manager.reloading(lambda: ""):
            pass
        await manager.beat()
        manager.close()


def test_a_manager_that_hears_nothing_holds_nothing_up(ear: Ear) -> None:
    manager = manager_of(ear)
    for _ in range(10_000):
        manager.status("again")
    manager.close()
