"""Taking connections on: the cap, one access line each, and a wall between them.

Shared by both directions. Whatever a handler raises ends its own connection only. A handler is a coroutine, which
begins as a fiber and has a task from where it needs one; or it is written in callbacks to begin with (`Taskless`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from meshproxy.inbound.unattended import UnattendedConnections
from meshproxy.inbound.visit import Visit
from meshproxy.limits.flight import DESCRIPTORS, MEMORY, OVERLOAD, Flight
from meshproxy.limits.waiting_room import NO_PLACE, TOO_MANY
from meshproxy.wire.closing import reset
from meshproxy.wire.ends import ConnectionEnd, End
from meshproxy.wire.fiber import Fiber
from meshproxy.wire.listen import accept_forever, accept_waiting, close_listener
from meshproxy.wire.occupancy import Occupancy

if TYPE_CHECKING:
    import socket

    from meshproxy.inbound.unattended import Unattended
    from meshproxy.limits.waiting_room import WaitingRoom
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.address import Address
    from meshproxy.wire.readiness import Readiness

# While connections are turned away for want of time or memory, the queue is looked at this seldom (seconds): whoever
# is reset may come again at once, and resetting him a hundred thousand times a second would leave no time for others.
_SHED_PAUSE = 0.05

# What a person can do about a limit that connections are turned away by.
REMEDIES = {
    "max_connections": "raise max_connections of this listener",
    OVERLOAD: "there is more to do than one core can: add workers ([runtime] workers) or machines, or ask for less",
    MEMORY: "raise the memory limit of this process (MemoryMax=, RLIMIT_AS) or lower max_connections",
    DESCRIPTORS: "raise the limit of open files (ulimit -n, LimitNOFILE=), or lower max_connections",
    NO_PLACE: "callers connect faster than this machine can shake hands; raise max_handshakes of this listener",
    TOO_MANY: "raise max_connections_per_peer of this listener, or look what is wrong there",
}

Handler = Callable[["socket.socket", Visit], Awaitable[None]]


class Taskless(ABC):
    """A handler whose connections need no task as long as nothing takes time."""

    @abstractmethod
    def begin(self, stay: Stay) -> None:
        """Begin to handle a connection; in the end its stay is left, or attended to by a task."""


class Stay:
    """One connection from its coming to its leaving; counted, and among the acceptor's visits, meanwhile."""

    __slots__ = ("_acceptor", "_alone", "_connections", "_weight", "sock", "visit")

    def __init__(self, acceptor: Acceptor, connections: trio.Nursery, sock: socket.socket, visit: Visit) -> None:
        self._acceptor = acceptor
        self._connections = connections
        self._weight = acceptor.post.weight
        self._alone: Unattended | None = None  # while it has no task
        self.sock = sock
        self.visit = visit
        acceptor.entered(visit, self._weight)

    def __repr__(self) -> str:
        return f"<Stay of {self.visit.id}>"

    def attended(self, handle: Handler) -> None:
        """Have a connection begin that will have a task where it needs one; from the start, if there is no engine."""
        acceptor = self._acceptor
        if acceptor.engine is None:
            self._connections.start_soon(self.attend, handle)
        else:
            Fiber(acceptor.engine, self._connections, acceptor.unattended, self.attend(handle))

    def begin(self, handler: Taskless) -> None:
        """Have a connection begin without a task."""
        try:
            handler.begin(self)
        except Exception as error:  # noqa: BLE001 - a bug in one connection must not end the others
            self._failed(error)
            self.leave()

    async def attend(self, handle: Handler) -> None:
        """Handle the connection to its end, and leave."""
        visit = self.visit
        try:
            await handle(self.sock, visit)
        except trio.Cancelled:
            if visit.caller or visit.upstream:
                visit.end = ConnectionEnd(End.DRAINED, None, "cut at the end of the drain")
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
        finally:
            self.leave()

    def go_on_alone(self, connection: Unattended) -> None:
        """Know of it, as long as it has no task, so that it can be cut; it must leave, or be `attended_by` one."""
        self._alone = connection
        self._acceptor.unattended.add(connection)

    def attended_by(self, handle: Handler) -> None:
        """Give it a task from now on."""
        self._be_alone_no_more()
        self._connections.start_soon(self.attend, handle)

    def left_alone(self, end: Callable[[], None]) -> None:
        """Have a connection end that had no task, and leave."""
        try:
            end()
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
        finally:
            self.leave()

    def leave(self) -> None:
        """Let go of everything."""
        self._be_alone_no_more()
        reset(self.sock)
        self._acceptor.left(self.visit, self._weight)

    def _be_alone_no_more(self) -> None:
        alone, self._alone = self._alone, None
        if alone is not None:
            self._acceptor.unattended.discard(alone)

    def _failed(self, error: Exception) -> None:
        visit = self.visit
        visit.end = ConnectionEnd(End.FAILED, None, "internal error")
        self._acceptor.log.error("internal_error", listener=visit.listener, id=visit.id, exc_info=error)


@dataclass(frozen=True, slots=True)
class Post:
    """Where an acceptor stands: its listener's name and direction, its cap, and the socket it watches.

    `address` is where it really listens, also when the settings left the port to the system. `borrowed`: the socket
    belongs to another process as well, which will remove a unix socket's file. `weight`: how many descriptors a
    connection takes.
    """

    name: str
    direction: str
    max_connections: int
    listener: socket.socket
    address: Address
    occupancy: Occupancy = field(default_factory=Occupancy)
    borrowed: bool = False
    weight: int = 2


class Acceptor:
    """Accepts on one listening socket and gives each connection to `handle`, in a fiber or a task of its own.

    `handle` owns the socket it is given and closes it; it sets `visit.end` once there is a story to tell.
    """

    def __init__(
        self,
        post: Post,
        recorder: Recorder,
        handle: Handler | Taskless,
        *,
        room: WaitingRoom | None = None,
        flight: Flight | None = None,
        engine: Readiness | None = None,
    ) -> None:
        """`room`: inbound, where strangers stand until it is known who they are. `flight`: how the process is doing.

        `engine`: connections begin as its fibers; None: each has a task of its own from the start.
        """
        self._post = post
        self._flight = flight or Flight()
        self._recorder = recorder
        self._handle = handle
        self.visits: dict[str, Visit] = {}  # those that are open, by their ids; bounded by the cap
        self._room = room
        self.unattended = UnattendedConnections()
        self.engine = engine

    def __repr__(self) -> str:
        return f"<Acceptor {self._post.name} open={self.open}/{self._post.max_connections}>"

    @property
    def post(self) -> Post:
        """Where it stands."""
        return self._post

    @property
    def open(self) -> int:
        """How many of its connections are open now."""
        return self._post.occupancy.mine

    def equip(self, max_connections: int, handle: Handler | Taskless, room: WaitingRoom | None, *, weight: int) -> None:
        """Treat new connections differently from now on; those that are open go on as they began."""
        self._post = replace(self._post, max_connections=max_connections, weight=weight)
        self._handle = handle
        self._room = room

    async def run(self, connections: trio.Nursery) -> None:
        """Accept until cancelled; connections live in `connections` and outlive this."""
        post = self._post
        await accept_forever(
            post.listener, self._taker(connections), self._starved, post.occupancy, pause=self._how_long_to_pause
        )

    def take_waiting(self, connections: trio.Nursery) -> None:
        """Take on who waits in the queue: closing the listener would reset them."""
        accept_waiting(self._post.listener, self._taker(connections), self._starved)

    def close(self, *, handed_over: bool = False) -> None:
        """Close the listening socket, of which somebody else may have a duplicate; idempotent.

        `run` must have been cancelled.
        """
        close_listener(self._post.listener, keep_file=handed_over or self._post.borrowed)

    def _taker(self, connections: trio.Nursery) -> Callable[[socket.socket, str], None]:
        def take(sock: socket.socket, peer: str) -> None:
            post, flight = self._post, self._flight
            if post.occupancy.total >= post.max_connections:
                self._turn_away(sock, peer, "max_connections")
                return
            if objection := flight.objection(post.weight):
                self._turn_away(sock, peer, objection)
                return
            place = None if self._room is None else self._room.enter(peer.rpartition(":")[0])
            if isinstance(place, str):
                self._turn_away(sock, peer, place)
                return
            visit = Visit(post.name, post.direction, peer)
            visit.place = place
            stay, handle = Stay(self, connections, sock, visit), self._handle
            if isinstance(handle, Taskless):
                stay.begin(handle)
            else:
                # Who came before a change of handlers is treated as it was then, however late he begins.
                stay.attended(handle)

        return take

    def _how_long_to_pause(self) -> float:
        return _SHED_PAUSE if self._flight.is_overloaded else 0.0

    def _turn_away(self, sock: socket.socket, peer: str, limit: str) -> None:
        """Reset a connection before anything was done for it."""
        reset(sock)
        self._recorder.refused(self._post.name, limit, peer=peer, remedy=REMEDIES[limit], limit=limit)

    # What a stay tells.

    def entered(self, visit: Visit, weight: int) -> None:
        """Count a connection that was taken on, and takes so many descriptors."""
        self._post.occupancy.enter()
        self._flight.held += weight
        self._recorder.opened(visit.listener)
        self.visits[visit.id] = visit

    def left(self, visit: Visit, weight: int) -> None:
        """Count that it is over, and tell of it."""
        del self.visits[visit.id]
        self._post.occupancy.leave()
        if visit.flow is not None and visit.stream is not None:
            visit.flow.end(visit.stream)
        self._flight.held -= weight
        if visit.place is not None:
            visit.place.leave()
        if visit.end is not None and visit.end.limit:
            self._recorder.reached(visit.listener, visit.end.limit)
        if visit.traffic.bare_fin:
            self._recorder.bare_fin(visit.listener)
        self._recorder.closed(visit.listener, None if visit.end is None else visit.line(visit.end), visit.flow)

    @property
    def log(self) -> Logger:
        """Where what went wrong is told."""
        return self._recorder.log

    def _starved(self, error: OSError) -> None:
        self._recorder.starved(self._post.name, error)
