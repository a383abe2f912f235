"""What a process was started into: sockets it inherits, a service manager, a sidecar to take over from, a sandbox."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from meshproxy import __version__
from meshproxy.runtime.drain import drain_takes
from meshproxy.runtime.handover import PATH, HandOver, Holding, Piece
from meshproxy.runtime.manager import Manager
from meshproxy.runtime.sandbox import Sandbox
from meshproxy.wire.inherited import Inheritance, passed_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from meshproxy.admin.server import Upgrade
    from meshproxy.runtime.doors import Listening
    from meshproxy.runtime.reception import Reception
    from meshproxy.runtime.reload import Reloader
    from meshproxy.runtime.takeover import Predecessor
    from meshproxy.settings.plan import Key
    from meshproxy.settings.schema import AdminSettings
    from meshproxy.telemetry.events import Logger


def _nothing() -> None:
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What there is of it; `on_serving` is called when this process serves. `shift`: see `Predecessor`."""

    inherited: Inheritance = field(default_factory=Inheritance)
    manager: Manager = field(default_factory=Manager)
    predecessor: Predecessor | None = None
    on_serving: Callable[[], None] = _nothing
    sandbox: Sandbox = field(default_factory=Sandbox)

    @classmethod
    def from_environment(cls) -> Origin:
        """Look at what a service manager says, and forget it: it is not meant for processes that we start.

        Before any thread runs and anything is bound. Raises StartError.
        """
        return cls(passed_on(os.environ, os.getpid()), Manager.of(os.environ, os.getpid()))

    @classmethod
    def look(cls, admin: AdminSettings, *, take_over: bool, on_serving: Callable[[], None] = _nothing) -> Origin:
        """As `from_environment`, and ask whoever is to be taken over from. Raises StartError."""
        origin = replace(cls.from_environment(), on_serving=on_serving)
        if not take_over:
            return origin
        from meshproxy.runtime.takeover import Predecessor  # noqa: PLC0415 - seldom

        origin.inherited.close_rest()  # the same ones, if any: who runs has them
        predecessor = Predecessor.ask(admin)
        return replace(origin, inherited=predecessor.inherited, predecessor=predecessor)

    @property
    def shift(self) -> int:
        """Which set of audit files is ours: two processes that overlap cannot write to the same."""
        return 0 if self.predecessor is None else self.predecessor.shift

    async def serves(self, log: Logger, status: str) -> None:
        """Say that this process serves: to whom it takes over from, to the service manager, to whoever waits.

        Raises StartError when it may not take over after all.
        """
        rest = self.inherited.close_rest()  # before the other side asks whether anybody listens there
        if self.predecessor is not None:
            waits = await self.predecessor.relieve()
            taken = [offer.name for offer in self.inherited.taken]
            log.info("took_over", predecessor=self.predecessor.pid, listeners=taken, predecessor_drains=waits)
            rest = []
        for each in rest:
            log.warning(
                "inherited_socket_unused",
                socket=each,
                effect="it is closed here, and who connects to it waits in vain",
                remedy="take it out of the socket unit, or write a listener for it",
            )
        self.manager.ready(status, main=self.predecessor is not None)
        self.on_serving()

    async def stops(self, departure: Departure, reloader: Reloader) -> None:
        """Tell the service manager of the drain when it begins, and how long it may take."""
        await departure.stopping.wait()
        self.manager.stopping("draining", within=drain_takes(reloader.configuration.settings.runtime))

    def close(self) -> None:
        """This process ends: nothing of it was, or is any more."""
        if self.predecessor is not None:
            self.predecessor.leave()
        self.inherited.close_rest()
        self.manager.close()

    def hand_over(
        self, departure: Departure, listening: Callable[[], Iterable[Listening]], reception: Reception, log: Logger
    ) -> Mapping[str, Upgrade]:
        """Return what lets another process take over from this one, for the admin server."""

        def holdings() -> Sequence[Holding]:
            if departure.stopping.is_set():
                return []
            ours = [Holding(Piece("/".join(each.key), each.lent), each.descriptor) for each in listening()]
            named = reception.listeners.items()
            return [*ours, *(Holding(Piece(name, sock in reception.lent), sock.fileno()) for name, sock in named)]

        def let_go(taken: frozenset[str]) -> None:
            self.manager.fall_silent()
            reception.hand_over(taken)
            departure.heirs = keys_of(taken)
            departure.stopping.set()

        return {PATH: HandOver(holdings, let_go, version=__version__, shift=self.shift, log=log)}


@dataclass(slots=True)
class Departure:
    """Whether this process is to end; and where another one has taken over, which listeners that has."""

    stopping: trio.Event = field(default_factory=trio.Event)
    heirs: frozenset[Key] | None = None


def keys_of(taken: frozenset[str]) -> frozenset[Key]:
    """Return the listeners among what was taken."""
    split = (name.partition("/") for name in taken)
    return frozenset((direction, name) for direction, slash, name in split if slash)


def in_words(reloader: Reloader) -> str:
    """Return how the sidecar is, for the service manager's one line."""
    state, listeners = reloader.state, len(reloader.configuration.settings.listeners)
    said = f"serving {listeners} {'listener' if listeners == 1 else 'listeners'}, generation {state.generation}"
    return f"{said}; the last reload failed: {state.last_error}" if state.last_error else said
