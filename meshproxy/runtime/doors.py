"""Where listening sockets come from: bound here, or handed over by the process that bound them.

A door is a listening socket with the count of its open connections. Whoever bound a unix socket answers for its file:
for how wide it is open, and that it is removed in the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meshproxy.errors import StartError
from meshproxy.settings.plan import Step
from meshproxy.settings.schema import Inbound
from meshproxy.wire.address import UnixAddress
from meshproxy.wire.inherited import Inheritance
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.occupancy import Occupancy, SharedOccupancy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshproxy.settings.plan import Key, Plan
    from meshproxy.settings.schema import Outbound, Settings

# Anybody on this machine may talk to a unix listener that checks who calls; without a check only our own group may.
_MODE_CHECKED = 0o666
_MODE_GROUP = 0o660


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket. `borrowed`: the process that bound it keeps it too, and answers for its file."""

    listener: socket.socket
    occupancy: Occupancy = field(default_factory=Occupancy)
    borrowed: bool = False


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening socket as another process may get it; `lent` as `Door.borrowed`."""

    key: Key
    lent: bool
    descriptor: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What a change of settings means for sockets.

    `wanted` are the listeners that need one; `heirs` says, for those that get it from another, from which.
    `successions` are old and new settings at one address.
    """

    wanted: Mapping[Key, Inbound | Outbound]
    heirs: Mapping[Key, Key]
    successions: tuple[tuple[Inbound | Outbound, Inbound | Outbound], ...]


class Doors(Protocol):
    """Where the stations get their sockets from."""

    def open(self, moves: Moves, present: Mapping[Key, socket.socket]) -> Mapping[Key, Door]:
        """Return a door for each listener that needs one, all or none; raises StartError."""

    def narrow(self, moves: Moves) -> None:
        """Before a change: let nobody in at a unix socket whom the old or the new settings would not let in."""

    def settle(self, moves: Moves) -> None:
        """After a change: open unix sockets as the new settings have it."""


class OwnDoors:
    """Binds, or claims what was inherited; answers for the files of unix sockets, but for those that are lent."""

    def __init__(self, inherited: Inheritance | None = None) -> None:
        self._inherited = inherited or Inheritance()

    def open(self, moves: Moves, present: Mapping[Key, socket.socket]) -> Mapping[Key, Door]:
        """Bind what is wanted, or duplicate what another leaves there, out of the sockets that are `present`."""
        sockets = open_sockets(moves, present, self._inherited)
        return {key: Door(sock, borrowed=self._inherited.lends(bound_address(sock))) for key, sock in sockets.items()}

    def narrow(self, moves: Moves) -> None:
        """See `Doors`."""
        for old, new in moves.successions:
            _set_mode(new, socket_mode(old) & socket_mode(new))

    def settle(self, moves: Moves) -> None:
        """See `Doors`."""
        for _, new in moves.successions:
            _set_mode(new, socket_mode(new))


class HandedDoors:
    """Takes sockets that another process bound, each with the page its open connections are counted in.

    `slot` of `sharers` is our place in those pages.
    """

    def __init__(self, slot: int, sharers: int) -> None:
        self._slot = slot
        self._sharers = sharers
        self._handed: dict[Key, tuple[socket.socket, int]] = {}

    def receive(self, keys: Sequence[Key], descriptors: Sequence[int]) -> None:
        """Keep a socket and a page for each key, instead of what was kept before; raises StartError, keeping none."""
        self.forget()
        if len(descriptors) != 2 * len(keys):
            for each in descriptors:
                os.close(each)
            raise StartError(f"{len(descriptors)} descriptors came for {len(keys)} listeners: too few may be open")
        for key, listener, page in zip(keys, descriptors[::2], descriptors[1::2], strict=True):
            sock = socket.socket(fileno=listener)
            sock.setblocking(False)
            self._handed[key] = (sock, page)

    def forget(self) -> None:
        """Close what was handed over and not opened."""
        for sock, page in self._handed.values():
            sock.close()
            os.close(page)
        self._handed.clear()

    def open(self, moves: Moves, present: Mapping[Key, socket.socket]) -> Mapping[Key, Door]:  # noqa: ARG002 - see `Doors`
        """Return what was handed over; raises StartError when something is missing."""
        if missing := moves.wanted.keys() - self._handed.keys():
            raise StartError(f"no socket was handed over for {sorted(missing)}")
        doors = {}
        for key in moves.wanted:
            sock, page = self._handed.pop(key)
            doors[key] = Door(sock, SharedOccupancy(page, self._slot, self._sharers), borrowed=True)
            os.close(page)
        return doors

    def narrow(self, moves: Moves) -> None:
        """Leave the files to who bound the sockets."""

    def settle(self, moves: Moves) -> None:
        """Leave the files to who bound the sockets."""


def open_sockets(
    moves: Moves, present: Mapping[Key, socket.socket], inherited: Inheritance
) -> dict[Key, socket.socket]:
    """Bind what is wanted, or claim what was inherited, or duplicate what another leaves there; all or none.

    Raises StartError.
    """
    sockets: dict[Key, socket.socket] = {}
    try:
        for key, settings in moves.wanted.items():
            if key in moves.heirs:
                sockets[key] = present[moves.heirs[key]].dup()
            else:
                mode = socket_mode(settings)
                claimed = inherited.claim({"/".join(key), settings.name}, settings.listen, mode=mode)
                sockets[key] = claimed or bind(settings.listen, mode=mode)
    except BaseException as error:
        claimed_ones = {offer.sock for offer in inherited.taken}
        for key, sock in sockets.items():
            close_listener(sock, keep_file=key in moves.heirs or sock in claimed_ones)
        if isinstance(error, OSError):
            raise StartError(f"cannot take over a listening socket: {error.strerror}") from error
        raise
    return sockets


def moves_of(plan: Plan, old: Mapping[Key, Inbound | Outbound], settings: Settings) -> Moves:
    """Return what a plan means for the sockets of the `old` listeners, given the new settings.

    An address that one listener leaves and another takes changes hands without a moment at which nobody listens.
    """
    new = {key_of(each): each for each in settings.listeners}
    wanted = {key: new[key] for key, step in plan.steps.items() if step in {Step.ADD, Step.MOVE}}
    left = {old[key].listen: key for key, step in plan.steps.items() if step in {Step.REMOVE, Step.MOVE}}
    heirs = {key: left.pop(each.listen) for key, each in wanted.items() if each.listen in left}
    equipped = {key: key for key, step in plan.steps.items() if step is Step.EQUIP}
    successions = ((old[before], new[after]) for after, before in {**heirs, **equipped}.items())
    return Moves(wanted, heirs, tuple(successions))


def first_moves(settings: Settings) -> Moves:
    """Return what starting with these settings asks for."""
    return Moves({key_of(each): each for each in settings.listeners}, {}, ())


def key_of(settings: Inbound | Outbound) -> Key:
    """Return the direction and name of a listener."""
    return ("inbound" if isinstance(settings, Inbound) else "outbound", settings.name)


def socket_mode(settings: Inbound | Outbound) -> int:
    """Return the mode of a unix listener's file."""
    checked = not isinstance(settings, Inbound) and settings.allow_uids is not None
    return _MODE_CHECKED if checked else _MODE_GROUP


def _set_mode(settings: Inbound | Outbound, mode: int) -> None:
    if isinstance(settings.listen, UnixAddress):
        # Somebody may have removed the file; that is no reason to fail in the middle of a change.
        with contextlib.suppress(OSError):
            Path(settings.listen.path).chmod(mode)
