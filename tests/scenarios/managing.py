"""A service manager for one service: it passes sockets (sd_listen_fds(3)) and hears what it is told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

from tests.scenarios.stage import PATIENCE, Sidecar, command

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

# What systemd does between fork and exec: descriptors from 3 on, and the pid only the child knows.
_EXEC = """
import os, sys
count, names, *rest = sys.argv[1:]
for at, number in enumerate(map(int, rest[: int(count)])):
    os.dup2(number, 100 + at)
for at in range(int(count)):
    os.dup2(100 + at, 3 + at)
    os.close(100 + at)
    os.set_inheritable(3 + at, True)
if int(count):
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES=names)
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, rest[int(count):])
"""


class ServiceManager:
    """Hears what is sent to its notify socket, from the beginning."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._changed = threading.Condition()
        self.told: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.path)
        self._thread.join()
        self._sock.close()

    def _listen(self) -> None:
        while message := self._sock.recv(4096):
            with self._changed:
                self.told.append(dict(line.split("=", 1) for line in message.decode().split("\n")))
                self._changed.notify_all()

    def hear(self, key: str, *, times: int = 1, within: float = PATIENCE) -> dict[str, str]:
        """The message with this key, or the so manyth of them; waits for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all(key)) >= times, within), f"no {key} in {self.told}"
        return self.all(key)[times - 1]

    def all(self, key: str) -> list[dict[str, str]]:
        return [message for message in self.told if key in message]

    def start(
        self, file: Path, passed: list[tuple[str, socket.socket]] | None = None, *, watchdog: float | None = None
    ) -> Sidecar:
        """Start the sidecar of a file as a service manager does."""
        passed = passed or []
        numbers = [str(sock.fileno()) for _, sock in passed]
        for _, sock in passed:
            sock.set_inheritable(True)
        names = ":".join(name for name, _ in passed)
        wrapped = [sys.executable, "-c", _EXEC, str(len(passed)), names, *numbers, *command("run", file)]
        more = {"NOTIFY_SOCKET": self.path}
        if watchdog is not None:
            more["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        process = subprocess.Popen(
            wrapped,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **more},
            pass_fds=[sock.fileno() for _, sock in passed],
        )
        return Sidecar(file, process=process)
