"""The log must never hold up the traffic: a full pipe, a full disk and a reader that is gone cost lines, not time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from meshproxy.telemetry.writer import LogWriter
from meshproxy.wire.anonymous import anonymous_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        for descriptor in (reading, writing):
            os.close(descriptor)


def read_lines(reading: int, writing: int) -> list[bytes]:
    """Everything written so far; the writer must be closed."""
    os.set_blocking(reading, False)
    content = bytearray()
    try:
        while data := os.read(reading, 65536):
            content += data
    except BlockingIOError:
        pass
    return bytes(content).splitlines()


class Gate:
    """`os.write` that stands still until it is let go, then fails as often as the script says."""

    def __init__(self, *failures: int) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.failures = list(failures)
        self.failed = threading.Semaphore(0)
        self.written = bytearray()

    def __call__(self, _descriptor: int, data: Buffer) -> int:
        self.entered.set()
        assert self.open.wait(10)
        if self.failures:
            code = self.failures.pop(0)
            self.failed.release()
            raise OSError(code, os.strerror(code))
        taken = bytes(data)[:50]  # partial writes are normal for pipes
        self.written += taken
        return len(taken)

    @property
    def lines(self) -> list[bytes]:
        return bytes(self.written).splitlines()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(os, "write", made)
    return made


def missing(lines: list[bytes]) -> int:
    return sum(json.loads(line)["count"] for line in lines if b"log_lines_dropped" in line)


def test_lines_are_written_whole_and_in_order() -> None:
    with pipe() as (reading, writing):
        writer = LogWriter(writing)
        lines = [b"line %d" % number for number in range(1000)]
        for line in lines:
            writer.put(line + b"\n")
        writer.close()
        assert read_lines(reading, writing) == lines
        assert (writer.dropped, repr(writer)) == (0, "<LogWriter waiting=0 dropped=0>")


def test_lines_of_one_thread_keep_their_order_among_those_of_others() -> None:
    with pipe() as (reading, writing):
        writer = LogWriter(writing)

        def talk(name: int) -> None:
            for number in range(200):
                writer.put(b"%d %d\n" % (name, number))

        threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        found = [tuple(map(int, line.split())) for line in read_lines(reading, writing)]
        for name in range(4):
            assert [number for who, number in found if who == name] == list(range(200))


def test_lines_of_the_one_without_a_lock_keep_their_order_and_none_is_forgotten() -> None:
    """However the thread that writes happens to sleep or wake: the pauses meet each moment of its turns."""
    with pipe() as (reading, writing):
        writer = LogWriter(writing)

        def talk() -> None:
            for number in range(200):
                writer.put(b"other %d\n" % number)

        other = threading.Thread(target=talk)
        other.start()
        for number in range(200):
            writer.put_alone(b"alone %d\n" % number)
            if not number % 10:
                threading.Event().wait(number % 7 * 0.005)
        other.join()
        writer.close()
        lines = read_lines(reading, writing)
        for name in (b"alone", b"other"):
            assert [line for line in lines if line.startswith(name)] == [b"%b %d" % (name, n) for n in range(200)]
        assert writer.dropped == 0


def test_lines_that_are_brought_together_stand_between_those_before_and_behind(gate: Gate) -> None:
    gate.open.set()
    writer = LogWriter(1)
    writer.put_alone(b"1\n")
    writer.put_all_alone([b"2\n", b"3\n"])
    writer.put_all_alone([])
    writer.put(b"4\n")
    writer.close()
    assert gate.lines == [b"1", b"2", b"3", b"4"]


def test_of_lines_that_are_brought_together_as_many_are_taken_as_there_is_room_for(gate: Gate) -> None:
    writer = LogWriter(1, capacity=10)
    writer.put_alone(b"first\n")
    assert gate.entered.wait(5)
    writer.put_all_alone([b"x\n"] * 8)
    writer.put_all_alone([b"y\n"] * 4)
    assert writer.dropped == 2
    gate.open.set()
    writer.close()
    assert [line for line in gate.lines if len(line) == 1] == [b"x"] * 8 + [b"y"] * 2


def test_what_waits_is_bounded_whoever_brings_it(gate: Gate) -> None:
    writer = LogWriter(1, capacity=10, most_bytes=1000)
    writer.put_alone(b"first\n")
    assert gate.entered.wait(5)
    for _ in range(4):
        writer.put(b"x" * 99 + b"\n")
    writer.put_alone(b"y" * 601 + b"\n")  # together more than the bytes
    for _ in range(9):
        writer.put_alone(b"z\n")  # of which three are more than the lines
    writer.put(b"z\n")
    assert writer.dropped == 5
    gate.open.set()
    writer.close()
    assert missing(gate.lines) == 5
    assert (gate.lines.count(b"x" * 99), gate.lines.count(b"z")) == (4, 6)


def test_a_reader_that_stands_still_costs_lines_and_the_next_one_tells_how_many(gate: Gate) -> None:
    writer = LogWriter(1, capacity=10)
    writer.put(b"first\n")
    assert gate.entered.wait(5)
    for number in range(25):
        writer.put(b"%d\n" % number)  # returns at once, each time
    assert writer.dropped == 15
    gate.open.set()
    writer.close()
    first, report, *kept = gate.lines
    assert first == b"first"
    assert json.loads(report) == {"event": "log_lines_dropped", "level": "warning", "count": 15}
    assert kept == [b"%d" % number for number in range(10)]


def test_what_waits_is_bounded_by_bytes_too(gate: Gate) -> None:
    writer = LogWriter(1, most_bytes=1000)
    writer.put(b"first\n")
    assert gate.entered.wait(5)
    for _ in range(25):
        writer.put(b"x" * 99 + b"\n")
    writer.put(b"a short one does not fit either\n")
    assert writer.dropped == 16
    gate.open.set()
    writer.close()
    assert gate.lines.count(b"x" * 99) == 10


def test_lines_that_come_together_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking the thread and writing for each line would cost more than the line."""
    writes: list[bytes] = []

    def write(_descriptor: int, data: Buffer) -> int:
        writes.append(bytes(data))
        return len(writes[-1])

    monkeypatch.setattr(os, "write", write)
    writer = LogWriter(1)
    lines = [b"%d\n" % number for number in range(500)]
    for line in lines:
        writer.put(line)
    writer.close()
    assert b"".join(writes) == b"".join(lines)
    assert len(writes) < 50


def test_whenever_it_is_closed_every_line_put_before_is_written() -> None:
    with pipe() as (reading, writing):
        for number in range(100):
            writer = LogWriter(writing)
            writer.put(b"%d\n" % number)
            if number % 2:
                threading.Event().wait(number % 7 * 0.005)
                writer.put(b"last of %d\n" % number)
            writer.close()
            assert not writer._thread.is_alive()
        lines = read_lines(reading, writing)
        assert len(lines) == 150


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_a_disk_that_is_full_for_a_while_costs_lines_and_nothing_else(gate: Gate, code: int) -> None:
    gate.failures = [code]
    writer = LogWriter(1)
    writer.put(b"lost\n")
    gate.open.set()
    assert gate.failed.acquire(timeout=5)
    writer.put(b"kept\n")
    writer.close()
    assert gate.lines[-1] == b"kept"
    assert missing(gate.lines) == writer.dropped == 1


def test_a_report_that_is_lost_itself_is_made_again(gate: Gate) -> None:
    """Two failures in a row: what the first lost must not be forgotten because the second lost the telling of it."""
    gate.failures = [errno.ENOSPC, errno.ENOSPC, errno.ENOSPC]
    gate.open.set()
    writer = LogWriter(1)
    writer.put(b"lost\n")
    assert gate.failed.acquire(timeout=5)
    writer.put(b"lost too\n")
    assert gate.failed.acquire(timeout=5)
    assert gate.failed.acquire(timeout=5)
    writer.put(b"kept\n")
    writer.close()
    assert gate.lines[-1] == b"kept"
    assert missing(gate.lines) == writer.dropped == 2


def test_a_disk_that_takes_half_a_line_breaks_none_of_those_that_come_after(tmp_path: Path) -> None:
    file = tmp_path / "log"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with file.open("ab") as log:
        writer = LogWriter(log.fileno())
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            writer.put(b"whole\n")
            writer.put(b"is cut off\n")
            while writer.dropped < 1:
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.put(b"kept\n")
        writer.close()
    lines = file.read_bytes().splitlines()
    assert lines[0] == b"whole"
    assert lines[-1] == b"kept"
    assert missing(lines) == writer.dropped == 1


def test_a_pipe_somebody_made_non_blocking_is_waited_for() -> None:
    with pipe() as (reading, writing):
        os.set_blocking(writing, False)
        writer = LogWriter(writing)
        content = [b"x" * 1000 for _ in range(200)]  # more than a pipe holds
        for line in content:
            writer.put(line + b"\n")
        received = bytearray()
        while received.count(b"\n") < len(content):
            received += os.read(reading, 65536)
        writer.close()
        assert received.splitlines() == content
        assert writer.dropped == 0


def test_closing_gives_up_on_a_reader_that_never_reads(gate: Gate) -> None:
    writer = LogWriter(1)
    writer.put(b"stuck\n")
    assert gate.entered.wait(5)
    writer.close(within=0.01)
    assert writer._thread.is_alive()
    gate.open.set()
    writer._thread.join(5)
    assert gate.lines == [b"stuck"]


def test_lines_of_several_processes_stay_whole_in_one_pipe_even_when_it_is_full() -> None:
    """Also those that are longer than what the kernel keeps together, of which there is one in ten."""
    script = (
        "import sys\n"
        "from meshproxy.telemetry.writer import LogWriter\n"
        "name, turn = sys.argv[1:]\n"
        "writer = LogWriter(2, turn=int(turn))\n"
        "for number in range(1000):\n"
        "    writer.put(name.encode() * (1 + number * 7 % 900 * (1 if number % 10 else 10)) + b'\\n')\n"
        "writer.close(within=30)\n"
    )
    turn = anonymous_file()
    with pipe() as (reading, writing):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        writers = [
            subprocess.Popen([sys.executable, "-c", script, name, str(turn)], stderr=writing, pass_fds=(turn,))
            for name in "abc"
        ]
        with open(reading, "rb", closefd=False) as file:
            lines = [file.readline() for _ in range(3000)]
        assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    os.close(turn)
    sizes = [1 + number * 7 % 900 * (1 if number % 10 else 10) for number in range(1000)]
    for name in (b"a", b"b", b"c"):
        assert [line for line in lines if line.startswith(name)] == [name * size + b"\n" for size in sizes]
