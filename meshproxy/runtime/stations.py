"""The listeners of a running sidecar: each a station with its own accept loop, connections and allow-list.

They come, go, move and change one by one; what happens to one leaves the others alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import StartError
from meshproxy.inbound.accept import Acceptor, Handler, Post
from meshproxy.settings.plan import Step
from meshproxy.settings.schema import Inbound
from meshproxy.wire.address import UnixAddress
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from meshproxy.inbound.authorize import Authorizer
    from meshproxy.inbound.live import Live
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.plan import Key, Plan
    from meshproxy.settings.schema import Outbound
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.relay import Wall

# Anybody on this machine may talk to a unix listener that checks who calls; without a check only our own group may.
_MODE_CHECKED = 0o666
_MODE_GROUP = 0o660


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a listener's settings make of it: who handles its connections, who judges them (inbound), who is open."""

    handle: Handler
    live: Live
    authorizer: Authorizer | None
    retire: Callable[[], None]  # lets go of what only this equipment holds, such as a pool


Equip = Callable[["Inbound | Outbound", "Configuration", "Equipment | None"], Equipment]


@dataclass(slots=True, eq=False)
class Station:
    """One listener as it stands."""

    settings: Inbound | Outbound
    acceptor: Acceptor
    equipment: Equipment
    accepting: trio.CancelScope = field(default_factory=trio.CancelScope)
    connections: trio.Nursery | None = None
    was_cut: bool = False

    @property
    def key(self) -> Key:
        """Its direction and name."""
        return (self.acceptor.post.direction, self.settings.name)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until `stop`, and stay until the last connection has ended or was cut."""
        try:
            async with trio.open_nursery() as self.connections:
                task_status.started()
                with self.accepting:
                    if not self.accepting.cancel_called:  # stopped before its first turn: the listener is closed
                        await self.acceptor.run(self.connections)
            self.was_cut = self.connections.cancel_scope.cancelled_caught
        finally:
            self.acceptor.close()
            self.equipment.retire()

    def stop(self, *, grace: float, within: float, handed_over: bool = False) -> None:
        """Take on who waits in the queue, close the listener, ask the open to end, and cut what is left `within`.

        `handed_over`: another station goes on listening at the same socket.
        """
        if self.accepting.cancel_called:
            return
        self.accepting.cancel()
        if self.connections is not None:
            self.acceptor.take_waiting(self.connections)
            self.connections.cancel_scope.deadline = trio.current_time() + within
        self.acceptor.close(handed_over=handed_over)
        self.equipment.live.drain(grace)


class Stations:
    """All stations, and the only place that changes them. Made closed; `bind_all`, then `run` each direction."""

    def __init__(self, equip: Equip, recorder: Recorder, wall: Wall) -> None:
        self._equip = equip
        self._recorder = recorder
        self._wall = wall
        self._stations: dict[Key, Station] = {}
        self._leaving: set[Station] = set()  # removed or moved away; their last connections have time to end
        self._nurseries: dict[str, trio.Nursery] = {}

    def __repr__(self) -> str:
        return f"<Stations {sorted(self._stations)} leaving={len(self._leaving)}>"

    def __iter__(self) -> Iterator[Station]:
        return iter(self._stations.values())

    @property
    def all(self) -> list[Station]:
        """Those that accept, and those that are leaving."""
        return [*self, *self._leaving]

    def of(self, direction: str) -> list[Station]:
        """Return the stations of one direction."""
        return [station for station in self if station.acceptor.post.direction == direction]

    def bind_all(self, configuration: Configuration) -> None:
        """Bind every listener; raises StartError, with none left bound, when one cannot be."""
        settings = configuration.settings
        try:
            for each in settings.listeners:
                self._add(self._station(each, configuration, bind_for(each)))
        except BaseException:
            self.close_all()
            raise

    def close_all(self) -> None:
        """Close every listening socket."""
        for station in self:
            station.acceptor.close()

    async def run(self, direction: str, nursery: trio.Nursery) -> None:
        """Start the stations of a direction in `nursery`, where later ones will start too."""
        self._nurseries[direction] = nursery
        for station in self.of(direction):
            await nursery.start(self._attend, station)

    async def _attend(self, station: Station, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await station.run(task_status)
        finally:
            self._leaving.discard(station)

    def apply(self, plan: Plan, configuration: Configuration, *, grace: float, within: float) -> None:
        """Go from the running configuration to the next, in one turn of the loop.

        An address that one listener leaves and another takes changes hands without a moment at which nobody listens.
        Raises StartError before anything has changed when a new address cannot be bound.
        """
        wanted = {key_of(each): each for each in configuration.settings.listeners}
        left = {
            self._stations[key].settings.listen: key
            for key, step in plan.steps.items()
            if step in {Step.REMOVE, Step.MOVE}
        }
        new = {key: wanted[key] for key, step in plan.steps.items() if step in {Step.ADD, Step.MOVE}}
        heirs = {left.pop(settings.listen): key for key, settings in new.items() if settings.listen in left}
        sockets = self._sockets_for(new, {heir: self._stations[key] for key, heir in heirs.items()})
        for key, step in plan.steps.items():
            if step in {Step.REMOVE, Step.MOVE}:
                station = self._stations.pop(key)
                self._leaving.add(station)
                station.stop(grace=grace, within=within, handed_over=key in heirs)
            elif step is Step.EQUIP:
                self._re_equip(self._stations[key], wanted[key], configuration, grace=grace)
            elif step is Step.KEEP:
                self._stations[key].settings = wanted[key]
        for key, sock in sockets.items():
            station = self._station(wanted[key], configuration, sock)
            _set_mode(station.settings, socket_mode(station.settings))
            self._add(station)
            if key[0] in self._nurseries:  # else `run` will start it
                self._nurseries[key[0]].start_soon(self._attend, station)
        self._rejudge(configuration)

    def _sockets_for(
        self, new: Mapping[Key, Inbound | Outbound], predecessors: Mapping[Key, Station]
    ) -> dict[Key, socket.socket]:
        """Bind what is added or moved, or duplicate what its predecessor leaves; all or none."""
        sockets: dict[Key, socket.socket] = {}
        try:
            for key, settings in new.items():
                sockets[key] = (
                    predecessors[key].acceptor.post.listener.dup() if key in predecessors else bind_for(settings)
                )
        except BaseException as error:
            for key, sock in sockets.items():
                close_listener(sock, keep_file=key in predecessors)
            if isinstance(error, OSError):
                raise StartError(f"cannot take over a listening socket: {error.strerror}") from error
            raise
        return sockets

    def recheck(self) -> int:
        """Ask about every live stream again; returns how many were cut."""
        return sum(self._recheck(station) for station in self.all)

    def _rejudge(self, configuration: Configuration) -> None:
        """Judge by the new allow-lists from now on, also what is left of listeners that moved away."""
        inbound = {each.name: each for each in configuration.settings.inbound}
        for station in self.all:
            authorizer, settings = station.equipment.authorizer, inbound.get(station.settings.name)
            if authorizer is not None and settings is not None:
                authorizer.replace(settings, configuration.policies[settings.name])
        self.recheck()

    def _recheck(self, station: Station) -> int:
        authorizer = station.equipment.authorizer
        if authorizer is None:
            return 0
        now = self._wall()
        cut = station.equipment.live.recheck(lambda call: authorizer.objection(call, now))
        if cut:
            self._recorder.terminated(station.settings.name, cut)
        return cut

    def _add(self, station: Station) -> None:
        self._stations[station.key] = station

    def _station(self, settings: Inbound | Outbound, configuration: Configuration, listener: socket.socket) -> Station:
        equipment = self._equip(settings, configuration, None)
        direction = "inbound" if isinstance(settings, Inbound) else "outbound"
        post = Post(settings.name, direction, settings.limits.max_connections, listener, bound_address(listener))
        return Station(settings, Acceptor(post, self._recorder, equipment.handle), equipment)

    def _re_equip(
        self, station: Station, settings: Inbound | Outbound, configuration: Configuration, *, grace: float
    ) -> None:
        old = station.equipment
        # Who waits has come under the old settings, perhaps through a file for all that has its users checked: taken on
        # as such, once the file is no wider than either settings want it.
        _set_mode(settings, socket_mode(station.settings) & socket_mode(settings))
        if station.connections is not None:
            station.acceptor.take_waiting(station.connections)
        station.equipment = self._equip(settings, configuration, old)
        station.settings = settings
        station.acceptor.equip(settings.limits.max_connections, station.equipment.handle)
        _set_mode(settings, socket_mode(settings))
        old.live.drain_open(grace)  # the next request of a caller shall find the new settings
        old.retire()


def key_of(settings: Inbound | Outbound) -> Key:
    """Return the direction and name of a listener."""
    return ("inbound" if isinstance(settings, Inbound) else "outbound", settings.name)


def bind_for(settings: Inbound | Outbound) -> socket.socket:
    """Bind a listener's socket; raises StartError."""
    return bind(settings.listen, mode=socket_mode(settings))


def _set_mode(settings: Inbound | Outbound, mode: int) -> None:
    if isinstance(settings.listen, UnixAddress):
        # Somebody may have removed the file; that is no reason to fail in the middle of a change.
        with contextlib.suppress(OSError):
            Path(settings.listen.path).chmod(mode)


def socket_mode(settings: Inbound | Outbound) -> int:
    """Return the mode of a unix listener's file."""
    checked = not isinstance(settings, Inbound) and settings.allow_uids is not None
    return _MODE_CHECKED if checked else _MODE_GROUP
