"""Who is calling at one inbound listener: how many strangers, and how many connections of each caller that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from meshproxy.limits.headcount import Headcount
from meshproxy.limits.waiting_room import TOO_MANY, WaitingRoom

if TYPE_CHECKING:
    from meshproxy.inbound.admit import Guest
    from meshproxy.inbound.visit import Visit
    from meshproxy.settings.schema import Limits
    from meshproxy.telemetry.record import Recorder


@dataclass(frozen=True, slots=True)
class Crowd:
    """A listener's; it outlives a change of its settings."""

    strangers: WaitingRoom
    callers: Headcount

    @classmethod
    def of(cls, limits: Limits) -> Crowd:
        """Return an empty one."""
        most_per_peer = limits.max_connections_per_peer
        return cls(WaitingRoom(limits.max_handshakes, most_per_peer), Headcount(most_per_peer))

    def adapt(self, limits: Limits) -> None:
        """Bear as many as these say from now on; who is there may stay."""
        self.strangers.most = limits.max_handshakes
        self.strangers.addresses.most = self.callers.most = limits.max_connections_per_peer

    def counted(self, guest: Guest, visit: Visit, recorder: Recorder) -> Counted:
        """Count a connection of a caller who is known now, for as long as the context; see `Counted.is_too_much`."""
        caller = str(guest.leaf.id)
        is_too_much = not self.callers.enter(caller)
        if is_too_much:
            remedy = f"{caller} has {self.callers.most} already; raise max_connections_per_peer, or look what is wrong"
            recorder.refused(visit.listener, TOO_MANY, peer=visit.peer, remedy=remedy, limit=TOO_MANY)
        return Counted(self.callers, caller, is_too_much=is_too_much)


class Counted:
    """A context: a connection is counted meanwhile, unless its caller has too many."""

    __slots__ = ("_caller", "_callers", "is_too_much")

    def __init__(self, callers: Headcount, caller: str, *, is_too_much: bool) -> None:
        self._callers = callers
        self._caller = caller
        self.is_too_much = is_too_much

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_too_much:
            self._callers.leave(self._caller)
