"""`meshproxy top` as a process: one look for a pipe, and a screen for a terminal, given back as it was."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_top_screen import answers, edge
from tests.scenarios.stage import PATIENCE, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "127.0.0.1:1"


class Face:
    """An admin server that says what it is told to."""

    def __init__(self) -> None:
        told = answers(topology={"timestamp": 1_800_000_000, "elements": {"edges": [edge("destination")]}})
        self.pages = {
            f"/{name}": getattr(told, name)
            for name in ("mesh", "topology", "series", "denials", "certificates", "connections")
        }
        self.asked: list[str] = []
        self.status = 200
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(OSError):
                    self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        target = sock.recv(4096).split(b" ")[1].decode()
        self.asked.append(target)
        body = self.pages[target.partition("?")[0]]
        sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (self.status, len(body), body))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def face() -> Iterator[Face]:
    with contextlib.closing(Face()) as face:
        yield face


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("top", *arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


def test_a_pipe_gets_one_look_without_colour(face: Face) -> None:
    done = run(face.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("/web")] == [["/web", "/api"]]
    assert "/series?tier=1s&since=1799999940.0" in face.asked


def test_json_is_what_is_shown(face: Face) -> None:
    done = run(face.address, "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert [row["source"] for row in told["rows"]] == ["/web"]
    assert told["connections"] == 5


@pytest.mark.parametrize(("faces", "code"), [(0, 2), (1, 1)])
def test_the_exit_code_says_who_answered(face: Face, faces: int, code: int) -> None:
    done = run(*[face.address] * faces, NOBODY)
    assert done.returncode == code
    assert f"unreachable  {NOBODY}  no sidecar answers; start it with: meshproxy run FILE" in done.stdout


def test_one_that_is_older_and_one_that_lies_are_told_of(face: Face) -> None:
    face.status = 404
    assert "says 404 to /topology" in run(face.address).stdout
    face.status = 200
    face.pages["/mesh"] = b"[" * 1000
    assert "no sidecar of this version" in run(face.address).stdout


def test_what_is_neither_file_nor_address_is_told_in_words(tmp_path: Path) -> None:
    done = run("no-such-file")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("meshproxy: no-such-file is no file; as an address it should be host:port")
    assert run("--every", "soon").returncode == 2
    faulty = tmp_path / "side.toml"
    faulty.write_text("[admin]\nlisten = 3\n")
    assert run(str(faulty)).returncode == 2


class Terminal:
    """A terminal of so many columns and lines, and what was written to it."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for whatever a shell starts in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            command("top", *arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "NO_COLOR": "", "PYTHONUTF8": "1"},
        )
        os.set_blocking(self._master, False)
        self.written = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def hears(self, what: bytes) -> bytes:
        """Read until that was written, and forget everything up to it."""
        deadline = time.monotonic() + PATIENCE
        while what not in self.written:
            assert time.monotonic() < deadline, f"waited for {what!r}, got {self.written[-2000:]!r}"
            with contextlib.suppress(BlockingIOError):
                self.written += os.read(self._master, 65536)
            time.sleep(0.01)
        head, _, self.written = self.written.partition(what)
        return head

    def types(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def ends(self) -> int:
        """Wait for the end; the terminal has to be as it was."""
        self.hears(b"\x1b[?25h\x1b[?1049l")
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._slave)[3] == self.before[3]
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def terminal(face: Face) -> Iterator[Terminal]:
    with contextlib.closing(Terminal(face.address, "--every", "100ms")) as terminal:
        yield terminal


def test_a_terminal_is_taken_over_sorted_resized_and_given_back(terminal: Terminal) -> None:
    terminal.hears(b"\x1b[?1049h\x1b[?25l")
    terminal.hears(b"\x1b[H")
    first = terminal.hears(b"\x1b[J")
    assert first.count(b"\r\n") == 23
    assert b"rate*" in first
    terminal.types(b"d")
    terminal.hears(b"denied*")
    terminal.resize(100, 30)
    terminal.hears(b"LAST 24 s")
    terminal.hears(b"\x1b[H")
    assert terminal.hears(b"\x1b[J").count(b"\r\n") == 29
    terminal.types(b"q")
    assert terminal.ends() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_gives_the_terminal_back(terminal: Terminal, number: signal.Signals, code: int) -> None:
    terminal.hears(b"q\x1b[0m")
    terminal.process.send_signal(number)
    assert terminal.ends() == code


def test_it_may_be_stopped_and_goes_on(terminal: Terminal) -> None:
    terminal.hears(b"q\x1b[0m")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.hears(b"\x1b[?25h\x1b[?1049l")
    terminal.process.send_signal(signal.SIGCONT)
    terminal.hears(b"\x1b[?1049h\x1b[?25l")
    terminal.hears(b"q\x1b[0m")
    terminal.types(b"q")
    assert terminal.ends() == 0


def test_one_that_goes_and_comes_back_is_shown_so(face: Face, terminal: Terminal) -> None:
    terminal.hears(b"serving")
    face.status = 500
    terminal.hears(b"unreachable")
    face.status = 200
    terminal.hears(b"serving")
    terminal.types(b"q")
    assert terminal.ends() == 0
