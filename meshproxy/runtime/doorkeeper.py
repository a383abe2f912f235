"""The listening sockets of a sidecar with several workers, in the process that bound them and accepts nothing.

It keeps them for workers that are started again, each with the page in which their open connections are counted. What
is to be closed is closed here before any worker closes it: the last one to do so has emptied the queue just before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.runtime.doors import Listening, OwnDoors, first_moves, moves_of, open_sockets
from meshproxy.settings.plan import Step
from meshproxy.wire.inherited import Inheritance
from meshproxy.wire.listen import bound_address, close_listener, remove_stale
from meshproxy.wire.occupancy import make_page, vacate

if TYPE_CHECKING:
    import socket
    from collections.abc import Container, Iterable, Mapping

    from meshproxy.runtime.doors import Moves
    from meshproxy.settings.plan import Key, Plan
    from meshproxy.settings.schema import Inbound, Outbound, Settings
    from meshproxy.wire.address import Address


@dataclass(frozen=True, slots=True)
class Kept:
    """A listening socket, whose it is, and the descriptor of its page."""

    settings: Inbound | Outbound
    listener: socket.socket
    page: int


@dataclass(frozen=True, slots=True)
class Change:
    """From one set of sockets to another: the next one, what is new in it, and what is left behind."""

    moves: Moves
    next: Mapping[Key, Kept]
    new: Mapping[Key, Kept]
    left: tuple[Kept, ...]


class Doorkeeper:
    """Holds the sockets for `sharers` workers."""

    def __init__(self, sharers: int, inherited: Inheritance | None = None) -> None:
        self._sharers = sharers
        self._inherited = inherited or Inheritance()
        self._kept: dict[Key, Kept] = {}
        self._closed: list[Address] = []
        self._files = OwnDoors()
        self.addresses: dict[Key, Address] = {}  # where each really listens, or did until all was closed

    def __repr__(self) -> str:
        return f"<Doorkeeper {sorted(self._kept)}>"

    @property
    def kept(self) -> Mapping[Key, Kept]:
        """What is listened at."""
        return self._kept

    def listening(self) -> list[Listening]:
        """Return the sockets of all that is listened at."""
        return [Listening(key, self._is_lent(kept), kept.listener.fileno()) for key, kept in self._kept.items()]

    def open_all(self, settings: Settings) -> None:
        """Bind everything, or nothing; raises StartError."""
        moves = first_moves(settings)
        self._keep(self._with_pages(moves, open_sockets(moves, {}, self._inherited)))

    def prepare(self, plan: Plan, settings: Settings) -> Change:
        """Bind what is new, and change nothing yet; raises StartError. To be followed by `take` or `undo`."""
        moves = moves_of(plan, {key: kept.settings for key, kept in self._kept.items()}, settings)
        present = {key: kept.listener for key, kept in self._kept.items()}
        new = self._with_pages(moves, open_sockets(moves, present, self._inherited))
        wanted = first_moves(settings).wanted
        stay = {
            key: Kept(wanted[key], kept.listener, kept.page)
            for key, kept in self._kept.items()
            if plan.steps[key] in {Step.KEEP, Step.EQUIP}
        }
        left = tuple(kept for key, kept in self._kept.items() if key not in stay)
        return Change(moves, {**stay, **new}, new, left)

    def undo(self, change: Change) -> None:
        """Close what was bound for nothing."""
        for key, kept in change.new.items():
            close_listener(kept.listener, keep_file=key in change.moves.heirs)
            os.close(kept.page)

    def take(self, change: Change) -> None:
        """Close what is left behind, but for the workers' copies, and let nobody in whom new settings would not."""
        self._files.narrow(change.moves)
        self._keep(change.next)
        self._close(change.left)

    def settle(self, change: Change) -> None:
        """Open unix sockets as new settings have it, and remove the files of those nobody listens at any more."""
        self._files.settle(change.moves)
        self.remove_files()

    def descriptors(self, keys: Iterable[Key], among: Mapping[Key, Kept]) -> list[int]:
        """Return for each key the socket and the page, to be handed over."""
        return [each for key in keys for each in (among[key].listener.fileno(), among[key].page)]

    def vacate(self, number: int) -> None:
        """A worker has ended: nobody need wait for it when accepting."""
        for kept in self._kept.values():
            vacate(kept.page, number, self._sharers)

    def close_all(self, *, handed_over: Container[Key] = ()) -> None:
        """Close everything, but for the workers' copies; idempotent.

        The files of what is `handed_over` are another process's from now on.
        """
        kept, self._kept = self._kept, {}
        self._close(each for key, each in kept.items() if key not in handed_over)
        for key, each in kept.items():
            if key in handed_over:
                close_listener(each.listener, keep_file=True)
                os.close(each.page)

    def remove_files(self) -> None:
        """Remove the files of closed unix sockets at which nobody listens."""
        for address in self._closed:
            remove_stale(address)
        self._closed.clear()

    def _with_pages(self, moves: Moves, sockets: Mapping[Key, socket.socket]) -> dict[Key, Kept]:
        return {key: Kept(moves.wanted[key], sock, make_page(self._sharers)) for key, sock in sockets.items()}

    def _keep(self, kept: Mapping[Key, Kept]) -> None:
        self._kept = dict(kept)
        self.addresses = {key: bound_address(each.listener) for key, each in kept.items()}

    def _close(self, left: Iterable[Kept]) -> None:
        for kept in left:
            if not self._is_lent(kept):
                self._closed.append(bound_address(kept.listener))
            close_listener(kept.listener, keep_file=True)
            os.close(kept.page)

    def _is_lent(self, kept: Kept) -> bool:
        return self._inherited.lends(bound_address(kept.listener))
