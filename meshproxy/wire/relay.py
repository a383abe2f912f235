"""One established connection, from its first byte to its end, and closed by the task that owns both sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from meshproxy.wire.closing import delivered, reset
from meshproxy.wire.ends import ConnectionEnd, End, PeerEof
from meshproxy.wire.splice import Splice
from meshproxy.wire.sweep import TICK, Sweeper
from meshproxy.wire.turnstile import Turnstile

if TYPE_CHECKING:
    import socket

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.splice import Held
    from meshproxy.wire.tls import TlsConnection

Wall = Callable[[], datetime]  # the wall clock (aware, UTC): certificates end by it, and it jumps
Cut = Callable[[ConnectionEnd], None]  # ends a connection now, and for this reason, unless it has ended already

# How seldom (seconds) a connection is looked at: often enough for a clock that jumped, a suspended machine, a short
# idle limit.
_LONGEST_BEAT = 30.0
_BEATS_PER_IDLE = 4

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Term:
    """How long a connection may live: `idle_timeout` seconds without a byte, and until `valid_until` at the latest.

    Nor longer than `age` seconds from now, where that is not None.
    """

    idle_timeout: float
    valid_until: datetime
    age: float | None = None


class Traffic(msgspec.Struct):
    """Application bytes moved so far, as the access line tells them, and whether the TLS peer just hung up."""

    to_tls: int = 0
    to_plain: int = 0
    bare_fin: bool = False
    source: Splice | None = None  # while it moves: who counts, at no cost of ours

    def refresh(self) -> None:
        """Bring the bytes up to date."""
        if self.source is not None:
            self.to_tls, self.to_plain = self.source.sent_to_tls, self.source.sent_to_plain


@dataclass(frozen=True, slots=True)
class Relay:
    """The engine, the buffers and the clocks that all connections of one sidecar share."""

    engine: Readiness
    buffers: Buffers
    sweeper: Sweeper
    wall: Wall
    seconds: Callable[[], float] | None = None  # the wall clock since 1970, for who asks often: a fifth of the time
    turnstile: Turnstile = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "turnstile", Turnstile(self.engine))

    async def run(
        self,
        plain: socket.socket,
        tls: TlsConnection,
        *,
        peer_eof: PeerEof,
        term: Term,
        traffic: Traffic,
        held: Held | None = None,
        on_cut: Callable[[Cut], None] | None = None,
    ) -> ConnectionEnd:
        """Relay between the two until the end, and close both sockets: properly after a clean end, else by RST.

        Returns how it ended; `traffic` is right then, also when this is cancelled, and after each `refresh` before.
        `held` is what an upgraded exchange left unsent. `on_cut` is told how to end it from outside before a byte
        moves, and may do so at once: a cancel scope for that costs 20 us. Raises what a callback raised.
        """
        splice = traffic.source = Splice(self.engine, self.buffers, plain, tls, peer_eof)
        attendant = _Attendant(splice, term, self.wall, self.sweeper.now)
        clean = False
        try:
            if on_cut is not None:
                on_cut(splice.cut)
            if not splice.done.is_set():
                splice.start(held)
                self.sweeper.add(attendant)
            await splice.done.wait()
            ended = splice.result()
            clean = ended.end is End.CLEAN
            if ended.end is End.TRUNCATED:
                await delivered(plain)
            return ended
        finally:
            self.sweeper.discard(attendant)
            splice.release()
            traffic.refresh()
            traffic.source = None
            traffic.bare_fin = splice.bare_fin
            for sock in (plain, tls.sock):
                if clean:
                    sock.close()
                else:
                    reset(sock)


class _Attendant:
    """Looks at one connection now and then, on the sweeper's clock: is it idle, has a certificate run out?

    No task wakes for that, and no cancel scope waits: thousands of idle connections cost a comparison each per tick.
    """

    __slots__ = ("_ends_at", "_moved", "_quiet_since", "_splice", "_term", "_wall", "deadline")

    def __init__(self, splice: Splice, term: Term, wall: Wall, now: float) -> None:
        self._splice = splice
        self._term = term
        self._wall = wall
        self._moved = 0
        self._quiet_since = now + TICK  # the sweeper's clock may be that much behind: never idle too early
        self._ends_at = _NEVER if term.age is None else now + TICK + term.age
        self.deadline = now

    def expire(self, now: float) -> None:
        """Look, and set the time of the next look."""
        idle_timeout = self._term.idle_timeout
        left = (self._term.valid_until - self._wall()).total_seconds()
        if left <= 0:
            self._splice.cut(ConnectionEnd(End.AGED, None, "a certificate of this connection has expired"))
        elif now >= self._ends_at:
            self._splice.cut(
                ConnectionEnd(End.AGED, None, f"older than {self._term.age:g} s", limit="max_connection_age")
            )
        elif self._splice.moved != self._moved:
            self._moved, self._quiet_since = self._splice.moved, now
        elif now - self._quiet_since >= idle_timeout:
            self._splice.cut(
                ConnectionEnd(End.IDLE, None, f"nothing moved for {idle_timeout:g} s", limit="idle_timeout")
            )
        self.deadline = now + min(left, idle_timeout / _BEATS_PER_IDLE, self._ends_at - now, _LONGEST_BEAT)
