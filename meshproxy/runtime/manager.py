"""What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive. Without one, nothing happens.

Datagrams to the socket that NOTIFY_SOCKET names, each some lines of `KEY=value`. Nothing of it may ever hold us up:
what the manager does not take at once is lost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

_LONGEST_STATUS: Final = 500  # characters; systemctl shows one line
_USEC: Final = 1_000_000
_LEAST_USEC: Final = 20_000  # a watchdog that short is a mistake, and would be all this process does


class Manager:
    """The service manager, if there is one. Made before anything else: a sandbox may keep us from its socket later."""

    def __init__(self, sock: socket.socket | None = None, *, watchdog: float | None = None) -> None:
        """`sock` is connected to the manager; `watchdog` is within how many seconds it wants to hear that we live."""
        self._sock = sock
        self._watchdog = watchdog
        self._silenced = False

    def __repr__(self) -> str:
        return f"<Manager {'none' if self._sock is None else 'told'} watchdog={self._watchdog}>"

    @classmethod
    def of(cls, environment: MutableMapping[str, str], pid: int) -> Manager:
        """Return the one that started process `pid`, and forget its variables: children are not to speak to it."""
        name = environment.pop("NOTIFY_SOCKET", "")
        interval, of = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        address = notify_address(name)
        if address is None:
            return cls()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(address)
        except OSError:
            sock.close()  # it has gone: it will not miss us
            return cls()
        ours = interval.isascii() and interval.isdigit() and of in ("", str(pid)) and int(interval) >= _LEAST_USEC
        return cls(sock, watchdog=int(interval) / _USEC if ours else None)

    @property
    def watchdog(self) -> float | None:
        """Seconds within which it wants to hear that we live; None: it does not."""
        return self._watchdog

    def ready(self, status: str, *, main: bool = False) -> None:
        """We serve; with `main` it is this process from now on that is the service (it has taken over)."""
        who = (f"MAINPID={os.getpid()}",) if main else ()
        self._tell(*who, "READY=1", _status(status))

    def status(self, text: str) -> None:
        """Say in one line how we are."""
        self._tell(_status(text))

    @contextlib.contextmanager
    def reloading(self, status: Callable[[], str]) -> Iterator[None]:
        """Say that files are looked at again, and afterwards that this is over and how we are."""
        # CLOCK_MONOTONIC, by which the manager tells this reload from one before (sd_notify(3), since 253).
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            yield
        finally:
            self._tell("READY=1", _status(status()))

    def stopping(self, status: str, *, within: float) -> None:
        """We drain, for so many seconds at most."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within * _USEC)}", _status(status))

    def fall_silent(self) -> None:
        """Another process is the service now."""
        self._silenced = True

    async def beat(self) -> None:
        """Say at half of the watchdog's time that we live, as long as we do; forever, from the event loop.

        A loop that is stuck says nothing, and that is how it is found.
        """
        if self._watchdog is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog / 2)

    def close(self) -> None:
        """Nothing will be told any more."""
        if self._sock is not None:
            self._sock.close()

    def _tell(self, *lines: str) -> None:
        if self._sock is None or self._silenced:
            return
        with contextlib.suppress(OSError):
            self._sock.send("\n".join(lines).encode())


def notify_address(name: str) -> str | None:
    """Return the socket address that NOTIFY_SOCKET means: a path, or an abstract name (`@`); None for anything else."""
    if name.startswith("/"):
        return name
    return f"\0{name[1:]}" if name.startswith("@") and len(name) > 1 else None


def _status(text: str) -> str:
    """One line: a line of its own would be another assignment."""
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"
