"""Listening sockets that were open before this process: from a service manager, or from the sidecar that it takes over.

Each is claimed once, by the listener it is for. A service manager leaves them behind the three usual descriptors and
says so in the environment (sd_listen_fds(3)); it keeps a copy, so a unix socket's file stays its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshproxy.errors import StartError
from meshproxy.wire.address import Address, TcpAddress, UnixAddress
from meshproxy.wire.listen import bound_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, MutableMapping

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_MOST: Final = 1024  # more than any unit has; a number that somebody mistyped is not counted up to
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Offer:
    """A listening socket, and what whoever left it calls it. `lent`: he keeps it too, and answers for its file."""

    sock: socket.socket
    name: str
    lent: bool = False


@dataclass(slots=True)
class Inheritance:
    """What is offered, and what was claimed of it.

    `strict`: a name was given on purpose, so a listener of that name with another address is a mistake.
    """

    offers: list[Offer] = field(default_factory=list)
    strict: bool = True
    taken: list[Offer] = field(default_factory=list)
    _modes: list[tuple[Path, int, int]] = field(default_factory=list, repr=False)  # file, before, wanted
    _lent: set[str] = field(default_factory=set, repr=False)  # files of unix sockets

    def claim(self, names: Collection[str], address: Address, *, mode: int) -> socket.socket | None:
        """Return the socket that is for `address`, or that is called so where the system picks the port; None: none.

        Until `settle`, the file of a unix socket is no wider than `mode` and than it was. Raises StartError when the
        two sides disagree about where to listen, or about who may connect.
        """
        for offer in self.offers:
            if _is_at(offer.sock, address) or (offer.name in names and _is_any_port(offer.sock, address)):
                self._mind_file(offer, address, mode)
                self.offers.remove(offer)
                self.taken.append(offer)
                offer.sock.setblocking(False)
                return offer.sock
            if self.strict and offer.name in names:
                raise StartError(
                    f'the service manager passed "{offer.name}" listening on {bound_address(offer.sock)}, but the file'
                    f" says {address}: write the same address in both"
                )
        return None

    def lends(self, address: Address) -> bool:
        """Whether somebody else answers for the file of the unix socket there."""
        return isinstance(address, UnixAddress) and _real(address.path) in self._lent

    def settle(self) -> None:
        """It is decided: open the files of claimed unix sockets as those who claimed them want it."""
        for path, _, wanted in self._modes:
            with contextlib.suppress(OSError):
                path.chmod(wanted)
        self._modes.clear()

    def undo(self) -> None:
        """It came to nothing: leave the files as they were found. After `settle` it does nothing."""
        for path, before, _ in self._modes:
            with contextlib.suppress(OSError):
                path.chmod(before)
        self._modes.clear()

    def close_rest(self) -> list[str]:
        """Close what nobody claimed, and return it in words."""
        rest, self.offers = self.offers, []
        words = [f'"{offer.name}" on {bound_address(offer.sock)}' for offer in rest]
        for offer in rest:
            offer.sock.close()
        return words

    def _mind_file(self, offer: Offer, address: Address, mode: int) -> None:
        if not isinstance(address, UnixAddress):
            return
        path = Path(address.path)
        if offer.lent:
            self._lent.add(_real(address.path))
        try:
            before = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            raise StartError(f"cannot look at the file of {address}: {error.strerror}") from error
        if not offer.lent:
            self._modes.append((path, before, mode))
            with contextlib.suppress(OSError):
                path.chmod(before & mode)
        elif before & ~mode:
            raise StartError(
                f"{address} was passed with mode {before:04o}, so more users could connect than its listener means:"
                f" write SocketMode={mode:04o} in its socket unit"
            )


def passed_on(environment: MutableMapping[str, str], pid: int) -> Inheritance:
    """Return what the service manager passed to process `pid`, and forget its variables: children are not meant.

    Raises StartError for a descriptor that cannot be a listener.
    """
    of, count, names = (environment.pop(name, "") for name in _VARIABLES)
    if of != str(pid) or not count.isascii() or not count.isdigit():
        return Inheritance()
    called = names.split(":") if names else []
    numbers = range(_FIRST, _FIRST + min(int(count), _MOST))
    return Inheritance([_offer(number, called[at] if at < len(called) else "") for at, number in enumerate(numbers)])


def handed_over(named: Iterable[tuple[str, bool, int]]) -> Inheritance:
    """Return what a sidecar handed over: name, whether it was lent, and descriptor, which is ours from now on."""
    offers = [Offer(socket.socket(fileno=descriptor), name, lent) for name, lent, descriptor in named]
    return Inheritance(offers, strict=False)


def _offer(number: int, name: str) -> Offer:
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens, sock = 0, None
    known = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
    if sock is None or not listens or sock.type != socket.SOCK_STREAM or sock.family not in known:
        if sock is not None:
            sock.detach()  # whatever it is, it is not ours to close
        raise StartError(
            f'descriptor {number} ("{name}") of the service manager is no listening stream socket:'
            " in its socket unit write ListenStream=, and not Accept=yes"
        )
    return Offer(sock, name, lent=True)


def _is_at(sock: socket.socket, address: Address) -> bool:
    if isinstance(address, UnixAddress):
        return sock.family == socket.AF_UNIX and _real(sock.getsockname()) == _real(address.path)
    return address.port != 0 and (sock.family, *sock.getsockname()[:2]) in _names_of(address)


def _is_any_port(sock: socket.socket, address: Address) -> bool:
    if isinstance(address, UnixAddress) or address.port != 0:
        return False
    return (sock.family, sock.getsockname()[0], 0) in _names_of(address)


def _names_of(address: TcpAddress) -> set[tuple[object, ...]]:
    """Return where `listen.bind` would bind: family, host, port."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return set()  # binding will say it better
    return {(family, *name[:2]) for family, _, _, _, name in found}


def _real(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
