"""Drives one HTTP connection: callbacks feed the machine and send what it says; one task waits for what takes time.

A request on a keep-alive connection with a resting upstream costs callbacks only. The task that owns the connection
wakes when an upstream has to be dialled, and at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy.http.relay import HttpRelay, Need, Phase
from meshproxy.upstream.pool import NoUpstreamConnection
from meshproxy.wire.channel import ChannelBroken
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.readiness import HANGUP, READ

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Exchange
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.pool import UpstreamConnection, Upstreams
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.sweep import Sweeper

# Reads one callback may do before it lets the others go first.
_FAIR_SHARE = 4

_BROKEN = HANGUP & ~0x2000  # an error or both directions gone; a half-close alone (RDHUP) is no news

# How long before the end of the shorter certificate life a connection is asked to end with its next answer.
_POLITE = 30.0

# A body slower than the minimum rate is judged by windows of this many seconds.
_WINDOW = 10.0


class Outcome(Enum):
    """How a driven connection ended."""

    CLOSED = auto()
    ABORTED = auto()
    UPGRADED = auto()
    AGED = auto()


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, and bytes per second (0: no minimum), that one connection is given."""

    head: float
    idle: float
    response: float
    body_min_rate: int


@dataclass(frozen=True, slots=True)
class Machinery:
    """What drives all connections of a listener: the engine, the clock, and what they are given of each."""

    engine: Readiness
    sweeper: Sweeper
    patience: Patience


class Teller(Protocol):
    """Who is told what happens on one connection."""

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Take an exchange that is over; `upstream` is where it went, if anywhere."""

    def upstream_failed(self, failure: FailedAttempt) -> None:
        """Take an attempt at an upstream that failed."""


class HttpDriver:
    """One downstream connection and the upstream its current exchange has, if any."""

    def __init__(
        self,
        machinery: Machinery,
        downstream: Channel,
        relay: HttpRelay,
        upstreams: Upstreams,
        teller: Teller,
    ) -> None:
        self._engine = machinery.engine
        self._sweeper = machinery.sweeper
        self._down = downstream
        self._relay = relay
        self._upstreams = upstreams
        self._patience = machinery.patience
        self._teller = teller
        self._up: UpstreamConnection | None = None
        self._phase: Phase | None = None
        self._moved = 0  # bytes, since the window began
        self._ending: Outcome | None = None
        self._error: BaseException | None = None
        self._dialling: trio.CancelScope | None = None
        self._fresh_wanted = False
        self._woken = trio.Event()
        self._parked = False  # the downstream has bytes that were left in the socket
        self._still_since = 0.0
        self._first = True  # nothing was ever asked on this connection
        self._polite_at = self._cut_at = self._drain_at = float("inf")
        self.deadline = float("inf")
        self.detail = ""

    def __repr__(self) -> str:
        return f"<HttpDriver {self._relay!r} down={self._down!r} up={self._up!r} ending={self._ending}>"

    @property
    def upstream(self) -> UpstreamConnection | None:
        """The upstream connection of an upgraded exchange, which is the caller's from then on."""
        return self._up

    async def run(self, *, valid_for: float) -> Outcome:
        """Carry exchanges until the connection is over; `valid_for` seconds at most.

        The sockets of an upgraded connection are the caller's; otherwise both are closed on return. Raises what a
        callback raised.
        """
        now = trio.current_time()
        self._polite_at, self._cut_at = now + max(valid_for - _POLITE, valid_for / 2), now + valid_for
        try:
            self._engine.watch(self._down.sock, self._on_downstream)
            self._sweeper.add(self)
            self._guarded(self._pull_downstream)
            await self._attend()
        except trio.Cancelled:
            self._relay.downstream_lost("cut at the end of the drain", trio.current_time())
            self._guarded(self._act)
            raise
        finally:
            self._sweeper.discard(self)
            if self._ending is not Outcome.UPGRADED or self._error is not None:
                self._engine.forget(self._down.sock)
                self._drop_upstream()
                self._down.release()
                if self._ending is not Outcome.CLOSED or self._error is not None:
                    reset(self._down.sock)
        if self._error is not None:
            raise self._error
        if self._ending is Outcome.CLOSED:
            await linger(self._down.sock)
        if self._ending is None:
            raise AssertionError("the connection has not ended")
        return self._ending

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without a request.

        Ending an idle connection at once would meet the request that is on its way.
        """
        self._relay.drain()
        self._drain_at = trio.current_time() + grace
        self._set_deadline()

    # The owner's task.

    async def _attend(self) -> None:
        while self._ending is None or (self._ending is Outcome.CLOSED and self._down.waiting):
            await self._woken.wait()
            self._woken = trio.Event()
            if self._error is not None:
                return
            if self._relay.phase is Phase.CONNECTING and self._up is None:
                await self._dial()

    async def _dial(self) -> None:
        with trio.CancelScope() as self._dialling:
            try:
                connection = await self._upstreams.dial(self._teller.upstream_failed)
            except NoUpstreamConnection as failed:
                self._relay.upstream_failed(failed.failure, str(failed), trio.current_time())
            else:
                self._upstreams.pool.adopt(connection)
                if self._relay.phase is Phase.CONNECTING:
                    self._attach(connection)
                else:  # the caller went away meanwhile
                    self._upstreams.pool.give_back(connection)
        self._dialling = None
        self._guarded(self._act)

    # Callbacks of the engine and the sweeper.

    def _on_downstream(self, events: int) -> bool:
        self._down.hint(events)
        if events & ~READ and self._down.waiting:
            self._guarded(self._flush_downstream)
        return self._guarded(self._pull_downstream, events)

    def on_upstream(self, connection: UpstreamConnection, events: int) -> bool:
        """Take the engine's events for the upstream connection of the current exchange."""
        connection.channel.hint(events)
        if events & ~READ and connection.channel.waiting:
            self._guarded(self._flush_upstream)
        return self._guarded(self._pull_upstream)

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed (called by the sweeper)."""
        self._guarded(self._expire, now)

    def _guarded(self, step: Callable[..., bool | None], *arguments: float) -> bool:
        if self._error is not None or self._ending in {Outcome.ABORTED, Outcome.UPGRADED, Outcome.AGED}:
            return True
        try:
            return step(*arguments) is not False
        except BaseException as error:  # noqa: BLE001 - the owner raises it: a bug or Ctrl-C surfaces there
            self._error = error
            self._woken.set()
            return True

    # Moving bytes.

    def _pull_downstream(self, events: int = 0) -> bool:
        relay, down = self._relay, self._down
        share = _FAIR_SHARE
        self._parked = True
        try:
            while relay.wants_downstream and not (self._up is not None and self._up.channel.waiting):
                if not share:
                    self._engine.resume(down.sock)
                    return False
                share -= 1
                data = down.receive()
                self._parked = not down.drained
                if data:
                    self._moved += len(data)
                    relay.feed(data, trio.current_time())
                if down.ended:
                    relay.downstream_ended(trio.current_time())
                self._act()
                if not self._parked or self._ending is not None:
                    return True
        except ChannelBroken as broken:
            relay.downstream_lost(str(broken), trio.current_time())
            self._act()
            return True
        if events & _BROKEN:
            # It is not read now, so only the kernel can tell that the caller is gone.
            relay.downstream_lost("the caller went away", trio.current_time())
            self._act()
        return False

    def _flush_downstream(self) -> None:
        before = self._down.waiting
        try:
            self._down.flush()
        except ChannelBroken as broken:
            self._relay.downstream_lost(str(broken), trio.current_time())
            self._act()
            return
        self._moved += before - self._down.waiting
        if self._down.waiting:
            return
        if self._ending is Outcome.CLOSED:
            self._woken.set()
        elif self._up is not None:
            self._engine.resume(self._up.channel.sock)

    def _pull_upstream(self) -> bool:
        relay = self._relay
        share = _FAIR_SHARE
        while self._up is not None and not self._down.waiting:
            connection = self._up
            if not share:
                self._engine.resume(connection.channel.sock)
                return False
            share -= 1
            try:
                data = connection.channel.receive()
            except ChannelBroken as broken:
                relay.upstream_lost(str(broken), trio.current_time())
                self._act()
                return True
            if data:
                self._moved += len(data)
                relay.feed_response(data, trio.current_time())
            if connection.channel.ended and self._up is connection:
                relay.upstream_ended(trio.current_time(), clean=connection.channel.ended_cleanly)
            self._act()
            if connection.channel.drained:
                return True
        return self._up is None

    def _flush_upstream(self) -> None:
        connection = self._up
        if connection is None:
            return
        try:
            connection.channel.flush()
        except ChannelBroken as broken:
            self._relay.upstream_lost(str(broken), trio.current_time())
            self._act()
            return
        if not connection.channel.waiting:
            self._engine.resume(self._down.sock)

    # Carrying out what the machine says.

    def _act(self) -> None:
        relay = self._relay
        while True:
            if relay.to_upstream:
                self._send_upstream()
            if relay.to_downstream:
                self._send_downstream()
            if relay.finished:
                for exchange in relay.finished:
                    self._teller.finished(exchange, self._up)
                relay.finished.clear()
            if not relay.needs:
                break
            self._carry_out(relay.needs.popleft())
        self._follow_phase()

    def _carry_out(self, need: Need) -> None:
        if need is Need.UPSTREAM:
            connection = self._upstreams.resting()
            if connection is not None:
                self._attach(connection)
            else:
                self._woken.set()
        elif need is Need.FRESH_UPSTREAM:
            self._woken.set()
        elif need is Need.RELEASE_UPSTREAM:
            if self._up is not None:
                connection, self._up = self._up, None
                self._upstreams.pool.give_back(connection)
        elif need is Need.DROP_UPSTREAM:
            self._drop_upstream()
        elif need is Need.CLOSE:
            self._end(Outcome.CLOSED)
        elif need is Need.ABORT:
            self._end(Outcome.ABORTED)
        elif need is Need.UPGRADE:
            self._end(Outcome.UPGRADED)

    def _attach(self, connection: UpstreamConnection) -> None:
        self._up = connection
        connection.user = self
        self._relay.attach(connection.responses, trio.current_time(), reused=connection.used)
        if not connection.channel.drained:
            self._engine.resume(connection.channel.sock)

    def _drop_upstream(self) -> None:
        if self._up is not None:
            connection, self._up = self._up, None
            self._upstreams.pool.drop(connection)

    def _send_upstream(self) -> None:
        data = b"".join(self._relay.to_upstream)
        self._relay.to_upstream.clear()
        if self._up is None:
            return
        try:
            self._up.channel.send(data)
        except ChannelBroken as broken:
            self._relay.upstream_lost(str(broken), trio.current_time())

    def _send_downstream(self) -> None:
        data = b"".join(self._relay.to_downstream)
        self._relay.to_downstream.clear()
        try:
            self._down.send(data)
        except ChannelBroken as broken:
            self._relay.downstream_lost(str(broken), trio.current_time())

    def _end(self, how: Outcome) -> None:
        self._ending = how
        if self._dialling is not None:
            self._dialling.cancel()
        if how is Outcome.CLOSED:
            try:
                self._down.finish()
            except ChannelBroken:
                self._ending = Outcome.ABORTED
        self._woken.set()

    # Deadlines.

    def _follow_phase(self) -> None:
        phase = self._relay.phase
        if self._parked and self._relay.wants_downstream:
            self._engine.resume(self._down.sock)
        if phase is self._phase:
            return
        if self._phase is Phase.CONNECTING and self._dialling is not None:
            self._dialling.cancel()
        self._first = self._first and phase in {Phase.IDLE, Phase.HEAD}
        self._phase = phase
        self._moved, self._still_since = 0, self._sweeper.now
        self._set_deadline()

    def _set_deadline(self) -> None:
        patience = self._patience
        seconds = _WINDOW
        if self._phase is Phase.IDLE and self._drain_at < float("inf"):
            seconds = max(self._drain_at - self._sweeper.now, 0.0)
        elif self._phase is Phase.IDLE:
            # Who has just connected is expected to ask; who has asked before may rest.
            seconds = patience.head if self._first else patience.idle
        elif self._phase is Phase.HEAD:
            seconds = patience.head
        elif self._phase is Phase.AWAITING:
            seconds = patience.response
        elif self._phase is Phase.CONNECTING:
            seconds = float("inf")  # the dialler has its own
        self.deadline = min(self._sweeper.within(seconds), self._polite_at, self._cut_at, self._upstream_ends_at)

    @property
    def _upstream_ends_at(self) -> float:
        return float("inf") if self._up is None else self._up.ends_at

    def _expire(self, now: float) -> None:
        if now >= min(self._cut_at, self._upstream_ends_at):
            self._relay.downstream_lost("a certificate of this connection has expired", now)
            self._act()
            self._ending = Outcome.AGED
            return
        if now >= self._polite_at:
            self._polite_at = float("inf")
            self._relay.drain()
        elif self._phase is Phase.OVER:
            self._end(Outcome.ABORTED)  # our last words are not being read
        elif self._phase in {Phase.IDLE, Phase.HEAD, Phase.AWAITING} or self._is_too_slow(now):
            self._relay.timed_out(now)
        self._act()
        self._set_deadline()

    def _is_too_slow(self, now: float) -> bool:
        """Whether the window that ends now saw too little: of a body, from a reader, or of anything for too long."""
        moved, self._moved = self._moved, 0
        if moved:
            self._still_since = now
        upstream_is_slow = self._up is not None and self._up.channel.waiting
        caller_is_slow = self._phase in {Phase.BODY, Phase.DISCARDING} and not upstream_is_slow
        if (caller_is_slow or self._down.waiting) and moved < self._patience.body_min_rate * _WINDOW:
            return True
        return now - self._still_since >= self._patience.idle
