"""Every authenticated connection that is open, of all listeners: to be ended when its peer is no longer believed.

A connection enters in the very turn in which its peer was judged, so no change of the deny-list falls in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.identity.peer import Objection, Peer


class Session:
    """One authenticated connection, in either direction; a context: it is known of meanwhile.

    `objection` says why it was ended, once it was.
    """

    __slots__ = ("_end", "_open", "connection", "listener", "objection", "peer")

    def __init__(self, sessions: set[Session], peer: Peer, *, listener: str, connection: str) -> None:
        self._open = sessions
        self._end: Callable[[str], None] | None = None
        self.peer = peer
        self.listener = listener
        self.connection = connection  # the id of its access lines, or (a pooled one) where it leads
        self.objection: Objection | None = None

    def __repr__(self) -> str:
        return f"<Session {self.listener} {self.connection} {self.peer.leaf.id} ended={self.objection is not None}>"

    def __enter__(self) -> Self:
        self._open.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Be forgotten: the connection is over; idempotent."""
        self._open.discard(self)
        self._end = None

    def ended_by(self, end: Callable[[str], None]) -> None:
        """Say how the connection is ended from now on, told why; at once if that was decided before."""
        self._end = end
        if self.objection is not None:
            end(self.objection.detail)

    def revoke(self, objection: Objection) -> bool:
        """End the connection, once; returns whether it was ended now."""
        if self.objection is not None:
            return False
        self.objection = objection
        if self._end is not None:
            self._end(objection.detail)
        return True


class Told(Protocol):
    """Who is told of each session that was ended."""

    def __call__(self, session: Session, objection: Objection) -> None:
        """Take one."""


class Sessions:
    """Bounded by the connection caps of the listeners, and of what their pools hold."""

    def __init__(self) -> None:
        self._open: set[Session] = set()

    def __repr__(self) -> str:
        return f"<Sessions open={len(self._open)}>"

    def __len__(self) -> int:
        return len(self._open)

    def of(self, peer: Peer, *, listener: str, connection: str) -> Session:
        """Return a session to be entered, which must happen before anything is waited for."""
        return Session(self._open, peer, listener=listener, connection=connection)

    def recheck(self, objection_to: Callable[[Peer], Objection | None], told: Told) -> int:
        """Ask about every session again and end those with an objection; returns how many."""
        ended = 0
        for session in list(self._open):
            objection = objection_to(session.peer)
            if objection is not None and session.revoke(objection):
                ended += 1
                told(session, objection)
        return ended
