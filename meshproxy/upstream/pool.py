"""Upstream connections that carry one exchange after another, and rest in between for a short while.

Short, because the other side may close a resting connection at any time: the longer it rests, the likelier it dies in
the hands of the next request (3 s cured that race for linkerd).
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from meshproxy.limits.flight import Flight
from meshproxy.upstream.queue import Queue
from meshproxy.wire.channel import ChannelBroken
from meshproxy.wire.closing import reset
from meshproxy.wire.sweep import TICK

if TYPE_CHECKING:
    from meshproxy.http.codec import ResponseReader
    from meshproxy.identity.sessions import Session
    from meshproxy.upstream.endpoint import OnFailure
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.sweep import Sweeper


_ANY = 1 << 30  # more than any process has descriptors for

NEVER = datetime.max.replace(tzinfo=UTC)  # a plain connection has no certificate to run out


class User(Protocol):
    """Whoever has an exchange on a connection."""

    def on_upstream(self, connection: UpstreamConnection, events: int) -> bool:
        """Take the engine's events for it; returns whether its socket was drained."""

    def on_upstream_revoked(self, connection: UpstreamConnection, why: str) -> None:
        """Let go of it at once: whoever is at its far end is not believed any more."""


@dataclass(slots=True, eq=False)
class UpstreamConnection:
    """One connection, watched from its first use to its end; `user` is None while it rests."""

    channel: Channel
    responses: ResponseReader
    target: str
    identity: str = ""  # outbound: the identity proved at the far end
    generation: int = 0  # of the own identity it was opened with
    valid_until: datetime = NEVER  # the first certificate of the two sides
    ends_at: float = float("inf")  # the same by the relay's clock
    used: bool = False
    session: Session | None = None  # outbound: who may be believed no more; entered by `Pool.adopt`
    user: User | None = None
    rests_until: float = 0.0


class Pool:
    """Resting connections to one upstream, the last used first; at most `most` of them, each for `idle` seconds.

    `queue` bounds how many there are in all, `flight` how many may be in use.
    """

    def __init__(
        self,
        engine: Readiness,
        sweeper: Sweeper,
        *,
        idle: float,
        most: int,
        queue: Queue[UpstreamConnection] | None = None,
        flight: Flight | None = None,
    ) -> None:
        self.queue = queue or Queue[UpstreamConnection](most=_ANY, longest=0, within=0.0)
        self.flight = flight or Flight()
        self.flight.pools.add(self)
        self._lent = 0
        self._engine = engine
        self._sweeper = sweeper
        self._idle = idle
        self._idle_and_tick = idle + TICK  # the sweeper's clock stands still in between; never early
        self._most = most
        self._resting: deque[UpstreamConnection] = deque()
        self.deadline = float("inf")
        sweeper.add(self)

    def __repr__(self) -> str:
        return f"<Pool resting={len(self._resting)}/{self._most}>"

    def of_one(self) -> Pool:
        """Return another one, for the one connection that one caller uses at a time; `close_all` it in the end."""
        return Pool(self._engine, self._sweeper, idle=self._idle, most=min(self._most, 1))

    def take(self, *, generation: int) -> UpstreamConnection | None:
        """Return a resting connection that was opened with this generation of the identity, or None.

        Its peer had not ended it a moment ago: the engine may not have told of that yet (the end lies further down in
        this batch, or came after the batch was fetched), and a request that must not be sent twice would be lost. So
        the kernel is asked each time, however short the rest was: one system call of half a microsecond.
        """
        flight = self.flight
        if flight.is_bounded and not flight.has_room():
            return None
        while self._resting:
            connection = self._resting.pop()
            if connection.generation != generation or connection.ends_at <= self._sweeper.now:
                self.close(connection)
            elif connection.channel.stirs() and not _is_quiet(connection.channel):
                self.drop(connection)
            else:
                return connection
        return None

    async def fetch(self, upstreams: Upstreams, on_failure: OnFailure) -> UpstreamConnection:
        """Return a connection that somebody gives back, or a new one: the caller's, until one of the ways to end it.

        Each attempt that fails is told. Raises NoUpstreamConnection.
        """
        given = await self.queue.turn()
        if given is not None and self._is_good(given, upstreams.generation):
            return given
        try:
            connection = await upstreams.dial(on_failure)
        except BaseException:
            self.queue.left()
            raise
        self.adopt(connection)
        return connection

    def _is_good(self, given: UpstreamConnection, generation: int) -> bool:
        """Whether a connection that was just given back is of use to another; if not it is ended, and leaves its place.

        As `take` asks.
        """
        user, given.user = given.user, None
        if isinstance(user, _OnItsWay) and user.is_revoked:
            self._discard(given)
        elif given.generation != generation or given.ends_at <= self._sweeper.now:
            self._finish(given)
        elif given.channel.stirs() and not _is_quiet(given.channel):
            self._discard(given)
        else:
            return True
        return False

    def adopt(self, connection: UpstreamConnection) -> None:
        """Watch a new connection until `close` or `drop`, and end it when its far end is believed no more."""

        def handle(events: int) -> bool:
            if connection.user is not None:
                return connection.user.on_upstream(connection, events)
            return self._disturbed(connection, events)

        self._engine.watch(connection.channel.sock, handle)
        if connection.session is not None:
            connection.session.__enter__().ended_by(partial(self._revoked, connection))

    def give_back(self, connection: UpstreamConnection) -> None:
        """Let a connection rest whose last exchange is over on both sides, or hand it to who waits for one."""
        connection.user, connection.used = None, True
        channel = connection.channel
        if channel.waiting:  # the answer came before its request was taken, and the rest of that is lost with us
            self.drop(connection)
            return
        if len(self._resting) >= self._most or channel.ended:
            self.close(connection)
            return
        if self.queue.waiting:
            connection.user = _OnItsWay()
            self.queue.hand(connection)
            return
        connection.rests_until = self._sweeper.now + self._idle_and_tick
        if not self._resting:
            self.deadline = connection.rests_until  # those that join later rest longer
        self._resting.append(connection)
        if not channel.drained:
            self._engine.resume(channel.sock)

    def set_aside(self, connection: UpstreamConnection) -> None:
        """As `give_back`, of one whose far end has asked to be left alone for a while (503): it is used last.

        A sidecar that has refused a request does not read that connection until it may be asked again.
        """
        self.give_back(connection)
        resting = self._resting
        if len(resting) > 1 and resting[-1] is connection:
            connection.rests_until = resting[0].rests_until  # they end in this order
            resting.rotate(1)

    def close(self, connection: UpstreamConnection) -> None:
        """End a connection that no exchange needs: properly."""
        self._finish(connection)
        self.queue.left()

    def drop(self, connection: UpstreamConnection) -> None:
        """End a connection in the middle of an exchange: by RST, so that nothing half-said looks complete."""
        self._discard(connection)
        self.queue.left()

    def lend(self) -> None:
        """Leave a connection to whoever carries the stream it was upgraded to: it is open, but no request.

        It keeps its user, who takes what the engine still has to tell of it: it does not rest.
        """
        self._lent += 1

    def lent_has_ended(self) -> None:
        """Take that one of those is closed."""
        self._lent -= 1
        self.queue.left()

    @property
    def in_flight(self) -> int:
        """How many requests have a connection, or open one; counted so that a request costs nothing."""
        return self.queue.open - self._lent - len(self._resting)

    def _finish(self, connection: UpstreamConnection) -> None:
        self._forget(connection)
        channel = connection.channel
        with contextlib.suppress(ChannelBroken):
            channel.finish()
        self._engine.forget(channel.sock)
        channel.release()
        channel.sock.close()

    def _discard(self, connection: UpstreamConnection) -> None:
        self._forget(connection)
        self._engine.forget(connection.channel.sock)
        connection.channel.release()
        reset(connection.channel.sock)

    def _forget(self, connection: UpstreamConnection) -> None:
        connection.user = None
        if connection.session is not None:
            connection.session.leave()

    def expire(self, now: float) -> None:
        """Close what has rested long enough (called by the sweeper)."""
        while self._resting and self._resting[0].rests_until <= now:
            self.close(self._resting.popleft())
        self.deadline = self._resting[0].rests_until if self._resting else float("inf")

    def close_all(self) -> None:
        """Close every resting connection and leave the sweeper; what is given back later does not rest."""
        self._most = 0
        self._sweeper.discard(self)
        while self._resting:
            self.close(self._resting.popleft())

    def _revoked(self, connection: UpstreamConnection, why: str) -> None:
        """End a connection at once, in use or at rest: not one more byte is for its far end."""
        if connection.user is not None:
            connection.user.on_upstream_revoked(connection, why)
        elif connection in self._resting:
            self._resting.remove(connection)
            self.drop(connection)

    def _disturbed(self, connection: UpstreamConnection, events: int) -> bool:
        """A resting connection has nothing to say: whatever comes, an end or bytes nobody asked for, it is done."""
        connection.channel.hint(events)
        if _is_quiet(connection.channel):
            return True
        self._resting.remove(connection)
        self.drop(connection)
        return False


class _OnItsWay:
    """Holds a connection that was handed to somebody who has not had his turn yet."""

    __slots__ = ("is_revoked",)

    def __init__(self) -> None:
        self.is_revoked = False

    def on_upstream(self, connection: UpstreamConnection, events: int) -> bool:
        """Keep in mind that there is news; whoever has it next looks."""
        connection.channel.hint(events)
        return False

    def on_upstream_revoked(self, _connection: UpstreamConnection, _why: str) -> None:
        """Keep in mind that it is of no use."""
        self.is_revoked = True


def _is_quiet(channel: Channel) -> bool:
    """Whether nothing came, not even an end.

    TLS may carry messages that are no bytes of the application (a session ticket): those are read and forgotten.
    """
    try:
        while not channel.receive():
            if channel.ended:
                return False
            if channel.drained:
                return True
    except ChannelBroken:
        pass
    return False


class Upstreams(Protocol):
    """Where an exchange gets its upstream connection."""

    pool: Pool

    @property
    def generation(self) -> int:
        """Of the own identity, with which connections that are used again must have been opened."""

    def resting(self) -> UpstreamConnection | None:
        """Return a connection that can be used at once, or None."""

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        """Open a new one, which is the caller's, telling each failed attempt; raises NoUpstreamConnection."""
