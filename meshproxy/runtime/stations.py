"""The listeners of a running sidecar: each a station with its own accept loop, connections and allow-list.

They come, go, move and change one by one; what happens to one leaves the others alone.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from meshproxy.inbound.accept import Acceptor, Handler, Post, Taskless
from meshproxy.limits.descriptors import room_for_connections
from meshproxy.limits.flight import Flight
from meshproxy.runtime.doors import Listening, OwnDoors, first_moves, key_of, moves_of
from meshproxy.runtime.usage import Usage
from meshproxy.settings.plan import Step
from meshproxy.settings.schema import Protocol
from meshproxy.wire.listen import bound_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.inbound.authorize import Authorizer
    from meshproxy.inbound.crowd import Crowd
    from meshproxy.inbound.live import Live
    from meshproxy.limits.waiting_room import WaitingRoom
    from meshproxy.runtime.doors import Door, Doors
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.plan import Key, Plan
    from meshproxy.settings.schema import Inbound, Outbound, RuntimeSettings, Settings
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.relay import Wall

# How long an idle HTTP connection may still ask when a drain has begun (seconds): longer than the other side's pool
# rests, so that its next request is answered with `Connection: close` instead of meeting a closed connection.
_IDLE_GRACE = 4.0


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a listener's settings make of it: who handles its connections, who judges them (inbound), who is open."""

    handle: Handler | Taskless
    live: Live
    authorizer: Authorizer | None
    retire: Callable[[], None]  # lets go of what only this equipment holds, such as a pool
    crowd: Crowd | None = None  # inbound: who is calling

    @property
    def room(self) -> WaitingRoom | None:
        """Where callers stand until it is known who they are (inbound)."""
        return None if self.crowd is None else self.crowd.strangers


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
    usage: Usage = field(default_factory=Usage)

    @property
    def key(self) -> Key:
        """Its direction and name."""
        return (self.acceptor.post.direction, self.settings.name)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until `stop`, and stay until the last connection has ended or was cut."""
        try:
            async with trio.open_nursery() as self.connections:
                task_status.started()
                try:
                    with self.accepting:
                        if not self.accepting.cancel_called:  # stopped before its first turn: the listener is closed
                            await self.acceptor.run(self.connections)
                    await self.acceptor.unattended.wait_until_none()
                finally:
                    self.acceptor.unattended.cut()
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

    def __init__(
        self,
        equip: Equip,
        recorder: Recorder,
        wall: Wall,
        doors: Doors | None = None,
        flight: Flight | None = None,
        *,
        engine: Readiness | None = None,
    ) -> None:
        self._doors = doors or OwnDoors()
        self._equip = equip
        self._recorder = recorder
        self._wall = wall
        self._flight = flight or Flight()
        self._engine = engine
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

    def listening(self) -> list[Listening]:
        """Return the sockets of all that accept."""
        posts = ((station.key, station.acceptor.post) for station in self)
        return [Listening(key, post.borrowed, post.listener.fileno()) for key, post in posts]

    def of(self, direction: str) -> list[Station]:
        """Return the stations of one direction."""
        return [station for station in self if station.acceptor.post.direction == direction]

    def bind_all(self, configuration: Configuration) -> None:
        """Bind every listener; raises StartError, with none left bound, when one cannot be."""
        moves = first_moves(configuration.settings)
        for key, door in self._doors.open(moves, {}).items():
            self._add(self._station(moves.wanted[key], configuration, door))
        self._adapt(configuration.settings)

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

    async def take_up(self, plan: Plan, configuration: Configuration, generation: int) -> bool:  # noqa: ARG002 - as a house does
        """Go from the running configuration to the next; see `apply`. Returns True: nothing comes in between."""
        runtime = configuration.settings.runtime
        self.apply(plan, configuration, grace=idle_grace(runtime), within=runtime.drain_timeout)
        return True

    def apply(self, plan: Plan, configuration: Configuration, *, grace: float, within: float) -> None:
        """Go from the running configuration to the next, in one turn of the loop.

        Raises StartError before anything has changed when a new address cannot be bound.
        """
        wanted = {key_of(each): each for each in configuration.settings.listeners}
        moves = moves_of(
            plan, {key: station.settings for key, station in self._stations.items()}, configuration.settings
        )
        doors = self._doors.open(moves, {key: each.acceptor.post.listener for key, each in self._stations.items()})
        # Who waits has come under the old settings, perhaps through a file for all that has its users checked: he is
        # taken on as such, once the file is no wider than either settings want it.
        self._doors.narrow(moves)
        for key, step in plan.steps.items():
            if step in {Step.REMOVE, Step.MOVE}:
                station = self._stations.pop(key)
                self._leaving.add(station)
                station.stop(grace=grace, within=within, handed_over=key in moves.heirs.values())
            elif step is Step.EQUIP:
                self._re_equip(self._stations[key], wanted[key], configuration, grace=grace)
            elif step is Step.KEEP:
                self._stations[key].settings = wanted[key]
        for key, door in doors.items():
            self._add(self._station(wanted[key], configuration, door))
            if key[0] in self._nurseries:  # else `run` will start it
                self._nurseries[key[0]].start_soon(self._attend, self._stations[key])
        self._doors.settle(moves)
        self._adapt(configuration.settings)
        self._rejudge(configuration)

    def recheck(self) -> int:
        """Ask about every live stream again; returns how many were cut."""
        return sum(self._recheck(station) for station in self.all)

    def _adapt(self, settings: Settings) -> None:
        """Bear as much as these settings, and the limit of open files, say from now on."""
        self._flight.bound(settings.runtime.max_lag)
        upstreams = sum(each.limits.max_upstream_connections for each in settings.listeners if _weight(each) == 1)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._flight.descriptors = room_for_connections(limit, upstreams=upstreams)

    def _rejudge(self, configuration: Configuration) -> None:
        """Judge by the new allow-lists from now on, also what is left of listeners that moved away."""
        inbound = {each.name: each for each in configuration.settings.inbound}
        for station in self.all:
            authorizer, settings = station.equipment.authorizer, inbound.get(station.settings.name)
            if authorizer is not None and settings is not None:
                authorizer.replace(settings, configuration.policies[settings.name])
                self._note(station, authorizer)
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

    def _note(self, station: Station, authorizer: Authorizer) -> None:
        granted = self._recorder.listener(station.settings.name).granted or {}
        station.usage.judged_by(authorizer.policy.value, granted, self._wall())

    def _add(self, station: Station) -> None:
        self._stations[station.key] = station

    def _station(self, settings: Inbound | Outbound, configuration: Configuration, door: Door) -> Station:
        equipment = self._equip(settings, configuration, None)
        direction, name = key_of(settings)
        most, address = settings.limits.max_connections, bound_address(door.listener)
        post = Post(name, direction, most, door.listener, address, door.occupancy, door.borrowed, _weight(settings))
        acceptor = Acceptor(
            post, self._recorder, equipment.handle, room=equipment.room, flight=self._flight, engine=self._engine
        )
        station = Station(settings, acceptor, equipment)
        if equipment.authorizer is not None:
            self._note(station, equipment.authorizer)
        return station

    def _re_equip(
        self, station: Station, settings: Inbound | Outbound, configuration: Configuration, *, grace: float
    ) -> None:
        old = station.equipment
        if station.connections is not None:
            station.acceptor.take_waiting(station.connections)
        station.equipment = self._equip(settings, configuration, old)
        station.settings = settings
        station.acceptor.equip(
            settings.limits.max_connections,
            station.equipment.handle,
            station.equipment.room,
            weight=_weight(settings),
        )
        old.live.drain_open(grace)  # the next request of a caller shall find the new settings
        old.retire()


def _weight(settings: Inbound | Outbound) -> int:
    """How many descriptors a connection takes: in HTTP mode those of upstreams are bounded by themselves."""
    return 1 if settings.protocol is Protocol.HTTP else 2


def idle_grace(settings: RuntimeSettings) -> float:
    """Return how long idle connections may still ask when their listener ends."""
    return min(_IDLE_GRACE, settings.drain_timeout / 2)
