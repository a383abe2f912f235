"""The connections of one listener that are open now: to be asked to end, and to be asked about again.

A stream that was let through once is registered *before* it is first asked about, so that an allow-list that changes in
between is not missed, and asked about again on each change; HTTP requests are asked about one by one anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from meshproxy.wire.ends import ConnectionEnd, End

if TYPE_CHECKING:
    from collections.abc import Callable

    from ca import SpiffeId, TrustDomain
    from meshproxy.wire.relay import Cut


class Drainable(Protocol):
    """A connection that can end by itself, between two messages."""

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without one."""


@dataclass(slots=True, eq=False)
class Call:
    """A stream that lives as long as its grant: whose, and (an upgraded request) what was asked.

    Whatever carries it says how it is `ended_by`; `cut` says why it was, once it was.
    """

    id: str
    caller: SpiffeId
    home: TrustDomain
    asked: tuple[str, str] | None = None
    cut: str = ""
    end: End = End.DENIED  # what a cut means
    _by: Cut | None = None

    def ended_by(self, end: Cut) -> None:
        """Say how it is ended from now on; at once if it was cut before."""
        self._by = end
        if self.cut:
            end(self.reason)

    def revoke(self, why: str) -> None:
        """Cut it because its caller is believed no more."""
        self._cut_for(End.REVOKED, why)

    def deny(self, why: str) -> bool:
        """Cut it because it is no longer granted; returns whether it was cut now."""
        return self._cut_for(End.DENIED, why)

    @property
    def reason(self) -> ConnectionEnd:
        """How it ended, if it was cut."""
        return ConnectionEnd(self.end, None, self.cut)

    def _cut_for(self, end: End, why: str) -> bool:
        if self.cut:
            return False
        self.cut, self.end = why, end
        if self._by is not None:
            self._by(self.reason)
        return True


Member = TypeVar("Member")


class Membership(Generic[Member]):
    """A context: `member` is among `members` meanwhile. Not made of a generator, which takes three times as long."""

    __slots__ = ("_member", "_members")

    def __init__(self, members: set[Member], member: Member) -> None:
        self._members = members
        self._member = member

    def __enter__(self) -> Member:
        self._members.add(self._member)
        return self._member

    def __exit__(self, *_: object) -> None:
        self._members.discard(self._member)


class Live:
    """Bounded by the connection cap of the listener."""

    def __init__(self) -> None:
        self._open: set[Drainable] = set()
        self._calls: set[Call] = set()
        self._grace: float | None = None  # set: draining

    def __repr__(self) -> str:
        return f"<Live open={len(self._open)} calls={len(self._calls)} draining={self._grace is not None}>"

    def holding(self, connection: Drainable) -> Membership[Drainable]:
        """Know of `connection` meanwhile; as `join` and `part`."""
        self.join(connection)
        return Membership(self._open, connection)

    def join(self, connection: Drainable) -> None:
        """Know of `connection` from now on; one that comes during a drain is asked to end at once."""
        if self._grace is not None:
            connection.drain(self._grace)
        self._open.add(connection)

    def part(self, connection: Drainable) -> None:
        """Know of it no longer; idempotent."""
        self._open.discard(connection)

    def registered(self, call: Call) -> Membership[Call]:
        """Ask about `call` again on each change meanwhile."""
        return Membership(self._calls, call)

    def recheck(self, objection: Callable[[Call], str]) -> int:
        """Ask about every registered call and cut those with an objection (a phrase); returns how many."""
        return sum(self.recheck_one(call, objection(call)) for call in list(self._calls))

    def recheck_one(self, call: Call, objection: str) -> bool:
        """Cut one call if there is an objection; returns whether it was cut now."""
        return bool(objection) and call.deny(objection)

    def drain(self, grace: float) -> None:
        """Ask all to end, those that are open and those still to come; see `Drainable`."""
        self._grace = grace
        self.drain_open(grace)

    def drain_open(self, grace: float) -> None:
        """Ask those that are open now to end; those still to come may stay."""
        for connection in list(self._open):
            connection.drain(grace)
