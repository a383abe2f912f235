"""Handing the listeners over to a process that takes over (`run --take-over`): what is said, and the old one's part.

It is asked over the admin unix socket, by an upgrade of a POST to /take-over; then frames as in `control` go both ways:

    successor: Claim          -> predecessor: Estate, with the listening sockets; or Refusal
    (it starts: judges, binds what is new, serves)
    successor: Serving(taken) -> predecessor: Relieved; it accepts no more, and drains

Both accept at the same sockets for a moment, so nobody waits in vain and nobody is reset. If the successor ends before
it serves, the predecessor has lost nothing but a few duplicates of descriptors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from meshproxy.runtime.control import Broken, Channel
from meshproxy.wire.listen import peer_uid

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from meshproxy.telemetry.events import Logger

PATH: Final = "/take-over"
TOKEN: Final = b"meshproxy-take-over/1"
PATIENCE: Final = 120.0  # seconds for a successor to start; several workers have 30 for the slowest of them


class Claim(msgspec.Struct, frozen=True, tag=True):
    """The successor asks for the listeners."""

    version: str
    pid: int


class Piece(msgspec.Struct, frozen=True):
    """A listening socket: `inbound/api`, `outbound/ledger`, `admin` or `public`; `lent`: a service manager keeps it."""

    name: str
    lent: bool = False


class Estate(msgspec.Struct, frozen=True, tag=True):
    """With it come the sockets of `pieces`, in that order. `shift` is which set of audit files is in use."""

    version: str
    pid: int
    shift: int
    pieces: tuple[Piece, ...]


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Not now; the reason is a sentence."""

    reason: str


class Serving(msgspec.Struct, frozen=True, tag=True):
    """The successor serves, and has taken these of the pieces."""

    taken: tuple[str, ...]


class Relieved(msgspec.Struct, frozen=True, tag=True):
    """The predecessor accepts no more."""


Asked = Claim | Serving
Answered = Estate | Refusal | Relieved


@dataclass(frozen=True, slots=True)
class Holding:
    """A listening socket as it stands."""

    piece: Piece
    descriptor: int


class HandOver:
    """The predecessor's part. `holdings` tells what it listens at now, empty once it drains.

    `let_go` is called with the names of what was taken: from then on it accepts nowhere, and drains.
    """

    token = TOKEN

    def __init__(
        self,
        holdings: Callable[[], Sequence[Holding]],
        let_go: Callable[[frozenset[str]], None],
        *,
        version: str,
        shift: int,
        log: Logger,
    ) -> None:
        self._holdings = holdings
        self._let_go = let_go
        self._version = version
        self._shift = shift
        self._log = log
        self._busy = False

    def __repr__(self) -> str:
        return f"<HandOver {'busy' if self._busy else 'idle'}>"

    def refusal(self, sock: socket.socket) -> str | None:
        """Only who is us, or could be, gets the sockets: the admin socket's group may look, and reload."""
        uid = peer_uid(sock)
        if uid in {0, os.geteuid()}:
            return None
        self._log.warning("take_over_refused", uid=uid, remedy="run it as the user of this sidecar, or as root")
        return f"user {uid} may not take over this sidecar: run it as user {os.geteuid()}, who runs this one, or root\n"

    async def attend(self, sock: socket.socket) -> None:
        """Carry it out, or go on as if nobody had asked."""
        channel = Channel[Asked](sock, Asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            with trio.move_on_after(PATIENCE):
                try:
                    await self._converse(channel)
                except Broken as broken:
                    self._log.warning("take_over_failed", reason=str(broken), effect="this process goes on")
                await channel.flush()
            nursery.cancel_scope.cancel()
        channel.close()

    async def _converse(self, channel: Channel[Asked]) -> None:
        claim = await channel.hear()
        holdings = self._holdings()
        if not isinstance(claim, Claim):
            raise Broken("it did not say what it wants")
        if self._busy or not holdings:
            why = "another process is taking over already" if self._busy else "it is draining, and listens nowhere"
            channel.say(Refusal(why))
            return
        self._busy = True
        try:
            self._log.info("take_over_begun", successor=claim.pid, version=claim.version)
            pieces = tuple(each.piece for each in holdings)
            estate = Estate(self._version, os.getpid(), self._shift, pieces)
            try:
                channel.say(estate, [each.descriptor for each in holdings])
            except OSError as error:
                channel.say(
                    Refusal(f"it cannot duplicate its sockets ({error.strerror}): raise the limit of open files")
                )
                return
            serving = await channel.hear()
            if not isinstance(serving, Serving):
                self._log.warning(
                    "take_over_failed", successor=claim.pid, reason="it ended before it served", effect="we go on"
                )
                return
            if self._holdings() != holdings:
                channel.say(Refusal("its listeners changed meanwhile; try again"))
                return
            self._log.info("draining", reason="taken over", successor=claim.pid)
            self._let_go(frozenset(serving.taken))
            channel.say(Relieved())
        finally:
            self._busy = False
