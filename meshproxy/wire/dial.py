"""Connecting out: names resolved again for each connection, off the event loop, with the last good answer kept."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import trio

from meshproxy.wire.address import Address, TcpAddress, UnixAddress, host_and_port
from meshproxy.wire.fiber import in_task
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

# Look-ups have threads of their own: a dead name server must not hold up the loading of a certificate.
_LOOKUP_THREADS = 8

_QUEUE_FULL_PAUSE = 0.02

SocketName = tuple[str, int] | tuple[str, int, int, int] | str


@dataclass(frozen=True, slots=True)
class Target:
    """One concrete socket address to connect to."""

    family: int
    name: SocketName

    def __str__(self) -> str:
        return f"unix:{self.name}" if isinstance(self.name, str) else host_and_port(self.name[0], self.name[1])


class ResolveError(Exception):
    """A name has no address, and never had one since we started; the text says what the resolver said.

    `timed_out` when it said nothing in time.
    """

    def __init__(self, detail: str, *, timed_out: bool) -> None:
        super().__init__(detail)
        self.timed_out = timed_out


def look_up(host: str, port: int) -> list[Target]:
    """Ask the system's resolver (blocking). Raises OSError as `getaddrinfo` does."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # typeshed's third form of a name, (int, bytes), is for families we do not ask for.
    return [Target(family, name) for family, _, _, _, name in answers if isinstance(name[0], str)]


@lru_cache(maxsize=1024)  # as the settings write them, read once and not for each connection
def _literal(address: Address) -> tuple[Target, ...] | None:
    """The one target of an address that needs no look-up, None for a name."""
    if isinstance(address, UnixAddress):
        return (Target(socket.AF_UNIX, address.path),)
    ip = address.ip
    if ip is None:
        return None
    return (Target(socket.AF_INET if ip.version == 4 else socket.AF_INET6, (address.host, address.port)),)


class Resolver:
    """Turns endpoint addresses into targets; `look_up` is the blocking question, asked in a thread.

    Keeps one answer per configured endpoint, so its memory is bounded by the settings.
    """

    def __init__(self, ask: Callable[[str, int], list[Target]] = look_up) -> None:
        self._ask = ask
        self._limiter = trio.CapacityLimiter(_LOOKUP_THREADS)
        self._last_good: dict[TcpAddress, tuple[Target, ...]] = {}

    def __repr__(self) -> str:
        return f"<Resolver names={len(self._last_good)}>"

    async def resolve(self, address: Address, *, within: float) -> tuple[Target, ...]:
        """Return the targets of an address, asking for at most `within` seconds.

        A failed or slow look-up falls back to the last good answer. Raises ResolveError when there is none.
        """
        literal = _literal(address)
        if literal is not None:
            return literal
        assert isinstance(address, TcpAddress)
        complaint = f"no answer within {within:g} s"
        await in_task()
        with trio.move_on_after(within) as scope:
            try:
                found = await in_thread(
                    self._ask, address.host, address.port, abandon_on_cancel=True, limiter=self._limiter
                )
            except OSError as error:
                complaint = error.strerror or str(error)
            else:
                if found:
                    self._last_good[address] = targets = tuple(dict.fromkeys(found))
                    return targets
                complaint = "it has no address"
        if address in self._last_good:
            return self._last_good[address]
        raise ResolveError(f"cannot resolve {address.host}: {complaint}", timed_out=scope.cancelled_caught)


async def connect(target: Target, *, within: float) -> socket.socket:
    """Return a connected, non-blocking socket with TCP_NODELAY, waiting at most `within` seconds.

    Raises OSError when the connection cannot be made, trio.TooSlowError when nobody answers.
    """
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if target.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not _connects_at_once(sock, target.name):
            await in_task()
            with trio.fail_after(within):
                await (_connect_unix if target.family == socket.AF_UNIX else _connect_tcp)(sock, target.name)
    except BaseException:
        sock.close()
        raise
    return sock


def _connects_at_once(sock: socket.socket, name: SocketName) -> bool:
    """Whether the first calls connected already; raises OSError as connect(2) does.

    On this machine, where the own service is, the three-way handshake is over before connect(2) says that it has begun:
    asking again costs one system call, waiting costs a task switch and a look of the whole loop.
    """
    for _ in range(2):
        try:
            sock.connect(name)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.EISCONN:  # how BSD answers the second call; Linux returns
                raise
        return True
    return False


async def _connect_tcp(sock: socket.socket, _name: SocketName) -> None:
    await trio.lowlevel.wait_writable(sock)
    failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


async def _connect_unix(sock: socket.socket, name: SocketName) -> None:
    # connect(2): on a unix socket EAGAIN means that the listener's queue is full, and nothing will wake us later.
    while True:
        await trio.sleep(_QUEUE_FULL_PAUSE)
        with contextlib.suppress(BlockingIOError):
            sock.connect(name)
            return
