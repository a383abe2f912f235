"""Listening sockets: binding with a clear sentence when it fails, and an accept loop that nothing on the wire ends."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy.errors import StartError
from meshproxy.wire.address import Address, TcpAddress, UnixAddress, host_and_port
from meshproxy.wire.occupancy import Occupancy

if TYPE_CHECKING:
    from meshproxy.wire.spare import Spares

# The kernel caps it at net.core.somaxconn; a short queue drops SYNs in a burst of reconnecting clients.
_BACKLOG = 4096

# Another process whose turn it is has this long to accept (seconds); it takes microseconds unless it is busy. Then we
# take on a few: enough that a process that hangs holds nobody up, too few to upset the balance.
_AFTER_YOU = 0.008
_INSTEAD = 3

# accept(2): the process or the system has no room; waiting helps, raising would end the sidecar.
_STARVED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_STARVED_PAUSE = 0.1

# accept(2): Linux passes on network errors of the connection not yet accepted.
_DIED_IN_THE_QUEUE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EINTR,
        errno.EPERM,  # a firewall rule refused it
    }
)


class StarvedHook(Protocol):
    """Told when accepting pauses for want of descriptors or memory, once per pause."""

    def __call__(self, error: OSError) -> None:
        """Take the error `accept` gave."""


def bind(address: Address, *, mode: int = 0o660) -> socket.socket:
    """Return a non-blocking listening socket; `mode` is the permission of a unix socket's file.

    A stale socket file is replaced, one with a living listener is not. Raises StartError with one clear sentence.
    """
    try:
        return _bind_unix(address, mode) if isinstance(address, UnixAddress) else _bind_tcp(address)
    except OSError as error:
        raise StartError(_in_words(address, error)) from error


def bound_address(sock: socket.socket) -> Address:
    """Where a listening socket really listens; tells the port the system picked for port 0."""
    name = sock.getsockname()
    return UnixAddress(name) if sock.family == socket.AF_UNIX else TcpAddress(name[0], name[1])


def close_listener(sock: socket.socket, *, keep_file: bool = False) -> None:
    """Close a listening socket and remove a unix listener's file, unless somebody else listens there by now.

    `keep_file` spares a successor who holds a duplicate of the socket the call that would ask who listens. Idempotent.
    A task that still waits for it gets trio.ClosedResourceError.
    """
    if sock.fileno() < 0:
        return
    trio.lowlevel.notify_closing(sock)
    address = None if keep_file else bound_address(sock)
    sock.close()
    if address is not None:
        remove_stale(address)


def remove_stale(address: Address) -> None:
    """Remove a unix socket's file where nobody listens."""
    if isinstance(address, UnixAddress):
        with contextlib.suppress(OSError):
            if _is_stale_socket(Path(address.path)):
                Path(address.path).unlink()


Take = Callable[[socket.socket, str], None]


async def accept_forever(
    listener: socket.socket,
    take: Take,
    on_starved: StarvedHook,
    occupancy: Occupancy | None = None,
    *,
    pause: Callable[[], float] | None = None,
    spares: Spares | None = None,
) -> None:
    """Accept until cancelled; `take` gets each connection, non-blocking, with its peer as `host:port` or `unix`.

    `take` must not block and must not raise. A lack of descriptors or memory pauses accepting for 100 ms and is
    reported through `on_starved`, unless one of the `spares` can be given up for it; a connection that died in the
    queue is nobody's news. `occupancy` says whose turn it is where others accept at the same socket. `pause` says how
    long (seconds) to leave the queue alone after each visit to it.
    """
    turn = (occupancy or Occupancy()).turn
    while True:
        await trio.lowlevel.wait_readable(listener)
        if not (most := turn()):
            await trio.sleep(_AFTER_YOU)
            most = turn() or _INSTEAD
        # A drain may cancel us and close the listener in the very turn in which a caller has woken us.
        await trio.lowlevel.checkpoint_if_cancelled()
        if not accept_waiting(listener, take, on_starved, most=most, spares=spares):
            await trio.sleep(_STARVED_PAUSE)
        elif pause is not None and (seconds := pause()):
            await trio.sleep(seconds)


def accept_waiting(
    listener: socket.socket,
    take: Take,
    on_starved: StarvedHook,
    *,
    most: int = _BACKLOG,
    spares: Spares | None = None,
) -> bool:
    """Accept who waits in the queue, at most `most`; returns whether there was room, else `on_starved` was told.

    Raises OSError for what neither the network's weather nor a want of room can explain: our own bug.
    """
    for _ in range(most):
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in _DIED_IN_THE_QUEUE:
                continue
            if error.errno not in _STARVED:
                raise
            if spares is not None and spares.give_up():
                continue
            on_starved(error)
            return False
        sock.setblocking(False)
        take(sock, _prepared(sock, peer))
    return True


def _prepared(sock: socket.socket, peer: object) -> str:
    """Set TCP_NODELAY where there is TCP; the peer in words."""
    if not isinstance(peer, tuple):
        return "unix"
    try:  # noqa: SIM105 - each connection comes by here, and `suppress` takes as long as the call
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:  # the peer may be gone already
        pass
    return host_and_port(peer[0], peer[1])


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user behind a unix socket as the kernel knows it (SO_PEERCRED, unix(7)); None where it cannot tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return int(uid)


def _bind_tcp(address: TcpAddress) -> socket.socket:
    family, kind, proto, _, name = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(name)
        return _listening(sock)
    except BaseException:
        sock.close()
        raise


def _bind_unix(address: UnixAddress, mode: int) -> socket.socket:
    path = Path(address.path)
    if _is_stale_socket(path):
        path.unlink()  # left behind by a killed process
    sock = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o777 & ~mode)  # the file must not be wider for an instant
        try:
            sock.bind(address.path)
        finally:
            os.umask(before)
        path.chmod(mode)
        return _listening(sock)
    except BaseException:
        sock.close()
        raise


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def _is_stale_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode) and not _someone_listens(path)
    except FileNotFoundError:
        return False


def _someone_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # a full queue (EAGAIN), or no permission to ask: somebody's
    return True


def _in_words(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = (
            f"ss -lxp | grep {address.path}"
            if isinstance(address, UnixAddress)
            else f"ss -ltnp sport = :{address.port}"
        )
        return f"cannot listen on {address}: the address is in use; see by whom with: {who}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: this machine has no such address"
    return f"cannot listen on {address}: {error.strerror or error}"
