"""The listeners of a running sidecar: each a station with its own accept loop, connections and allow-list.

They come, go, move and change one by one; what happens to one leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.inbound.accept import Acceptor, Handler, Post
from meshproxy.settings.plan import Step
from meshproxy.settings.schema import Inbound
from meshproxy.wire.address import UnixAddress
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

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
                    await self.acceptor.run(self.connections)
            self.was_cut = self.connections.cancel_scope.cancelled_caught
        finally:
            self.acceptor.close()
            self.equipment.retire()

    def stop(self, *, grace: float, within: float) -> None:
        """Take on who waits in the queue, close the listener, ask the open to end, and cut what is left `within`."""
        if self.connections is None or self.accepting.cancel_called:
            return
        self.accepting.cancel()
        self.acceptor.take_waiting(self.connections)
        self.acceptor.close()
        self.equipment.live.drain(grace)
        self.connections.cancel_scope.deadline = trio.current_time() + within


class Stations:
    """All stations, and the only place that changes them. Made closed; `bind_all`, then `run` each direction."""

    def __init__(self, equip: Equip, recorder: Recorder, wall: Wall) -> None:
        self._equip = equip
        self._recorder = recorder
        self._wall = wall
        self._stations: dict[Key, Station] = {}
        self._nurseries: dict[str, trio.Nursery] = {}

    def __repr__(self) -> str:
        return f"<Stations {sorted(self._stations)}>"

    def __iter__(self) -> Iterator[Station]:
        return iter(self._stations.values())

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
            await nursery.start(station.run)

    def apply(self, plan: Plan, configuration: Configuration, *, grace: float, within: float) -> None:
        """Go from the running configuration to the next, in one turn of the loop.

        Raises StartError before anything has changed when a new address cannot be bound.
        """
        wanted = {key_of(each): each for each in configuration.settings.listeners}
        sockets: dict[Key, socket.socket] = {}
        try:
            for key, step in plan.steps.items():
                if step in {Step.ADD, Step.MOVE}:
                    sockets[key] = bind_for(wanted[key])
        except BaseException:
            for sock in sockets.values():
                close_listener(sock)
            raise
        for key, step in plan.steps.items():
            if step in {Step.REMOVE, Step.MOVE}:
                self._stations.pop(key).stop(grace=grace, within=within)
            if step in {Step.ADD, Step.MOVE}:
                station = self._station(wanted[key], configuration, sockets[key])
                self._add(station)
                self._nurseries[key[0]].start_soon(station.run)
            elif step is Step.EQUIP:
                self._re_equip(self._stations[key], wanted[key], configuration)
            elif step is Step.KEEP:
                self._stations[key].settings = wanted[key]
        self._rejudge(configuration)

    def recheck(self) -> int:
        """Ask about every live stream again; returns how many were cut."""
        return sum(self._recheck(station) for station in self)

    def _rejudge(self, configuration: Configuration) -> None:
        for station in self:
            authorizer, settings = station.equipment.authorizer, station.settings
            if authorizer is not None and isinstance(settings, Inbound):
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

    def _re_equip(self, station: Station, settings: Inbound | Outbound, configuration: Configuration) -> None:
        old = station.equipment
        station.equipment = self._equip(settings, configuration, old)
        station.settings = settings
        station.acceptor.equip(settings.limits.max_connections, station.equipment.handle)
        old.retire()
        if isinstance(settings.listen, UnixAddress):
            Path(settings.listen.path).chmod(socket_mode(settings))


def key_of(settings: Inbound | Outbound) -> Key:
    """Return the direction and name of a listener."""
    return ("inbound" if isinstance(settings, Inbound) else "outbound", settings.name)


def bind_for(settings: Inbound | Outbound) -> socket.socket:
    """Bind a listener's socket; raises StartError."""
    return bind(settings.listen, mode=socket_mode(settings))


def socket_mode(settings: Inbound | Outbound) -> int:
    """Return the mode of a unix listener's file."""
    checked = not isinstance(settings, Inbound) and settings.allow_uids is not None
    return _MODE_CHECKED if checked else _MODE_GROUP
