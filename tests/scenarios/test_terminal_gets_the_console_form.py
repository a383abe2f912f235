"""When stderr is a terminal a person is watching: readable lines, no JSON, and no stranger steers the terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial, tls_exchange, underneath
from tests.scenarios.stage import PATIENCE, ask, command, inbound, poll

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.scenarios.stage import Stage

ADMIN = '[admin]\nlisten = "unix:admin.sock"\n'


class Terminal:
    """A terminal with a sidecar in it."""

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.shown = ""
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", **environment}
        self.process = subprocess.Popen(command("run", file), stdin=subprocess.DEVNULL, stderr=slave, env=environment)
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := os.read(self._master, 65536):
                self.shown += data.decode()

    def leave(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        os.close(self._master)


@contextlib.contextmanager
def terminal(file: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    made = Terminal(file, environment)
    try:
        yield made
    finally:
        made.leave()


@pytest.mark.parametrize("no_color", ["", "1"], ids=["coloured", "NO_COLOR"])
def test_terminal_gets_the_console_form(stage: Stage, no_color: str) -> None:
    service = stage.keep(Service(echo))
    file = stage.configure("api", ADMIN + inbound(forward=service.address))
    evil = stage.mesh.forge(into=stage.workspace / "evil", uris=["spiffe://mesh.test/\x1b[2Jweb\nforged"])

    with terminal(file, {"NO_COLOR": no_color}) as screen:
        poll(lambda: "started" in screen.shown, "the sidecar has started")
        listening = ask(f"unix:{stage.workspace / 'admin.sock'}", "/status").json["listeners"]
        assert isinstance(listening, list)
        address = listening[0]["listen"]
        assert tls_exchange(address, client_context(stage.identity("/web")), b"hello") == b"hello"
        with tls_dial(address, client_context(evil)) as caller:
            underneath(caller)
        poll(lambda: "handshake_failed" in screen.shown and "| clean" in screen.shown, "both are told")

    assert "\x1b[2J" not in screen.shown
    assert ("\x1b[" in screen.shown) == (no_color == "")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.shown).splitlines()
    assert not any(line.startswith(("{", "forged")) for line in lines)
    [access] = [line for line in lines if "| clean" in line]
    who, what, how = access.split(" | ")
    assert who.endswith(f"inbound  api: spiffe://mesh.test/web -> {service.address} allow by web-calls")
    assert what.startswith("5 B in, 5 B out, ")
    assert how == "clean"
