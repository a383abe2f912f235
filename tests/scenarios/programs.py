"""Other people's programs at the far end: started in the foreground, waited for, and ended with the stage."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.scenarios.stage import PATIENCE, poll

if TYPE_CHECKING:
    from types import TracebackType

    from tests.factory import Identity

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp (proc_net_tcp.txt)


def require(name: str) -> str:
    """The path of a program; skips the test where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port nobody listens on, below those the kernel gives to clients: some programs cannot be told to pick one."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listening(port: int) -> bool:
    """Whether somebody listens there; asks the kernel, because a connection made to find out would be one too many."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return any(each[3] == _LISTEN and int(each[1].rpartition(":")[2], 16) == port for each in fields)


def pem_of_all(identity: Identity) -> Path:
    """Chain and key in one file, as HAProxy and stunnel want it."""
    path = identity.directory / "both.pem"
    path.write_bytes(identity.chain.read_bytes() + identity.key.read_bytes())
    return path


class Program:
    """A program that listens on `ports` and runs until the stage is left."""

    def __init__(self, arguments: list[str | Path], *, ports: list[int], folder: Path) -> None:
        self._arguments = [str(each) for each in arguments]
        self._ports = ports
        self._output = folder / f"{Path(self._arguments[0]).name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        process = self._process
        poll(lambda: process.poll() is not None or all(map(listening, self._ports)), f"{self._arguments[0]} listens")
        if process.poll() is not None:
            pytest.fail(f"{self._arguments[0]} ended with {process.returncode}:\n{self._output.read_text()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End it by SIGTERM, which nginx's master passes on to its workers; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
