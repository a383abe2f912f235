"""Drives one HTTP connection: callbacks feed the machine and send what it says; one task waits for what takes time.

A request on a keep-alive connection with a resting upstream costs callbacks only. The task that owns the connection
wakes when an upstream has to be dialled, and at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy.http.phase import Need, Phase
from meshproxy.inbound.deadlines import Deadlines, Due, Patience, Waiting
from meshproxy.upstream.pool import NoUpstreamConnection
from meshproxy.wire.channel import ChannelBroken
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.readiness import READ, SEVERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Exchange
    from meshproxy.http.relay import HttpRelay
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.pool import UpstreamConnection, Upstreams
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.sweep import Sweeper

# Reads one callback may do before it lets the others go first.
_FAIR_SHARE = 4


class Outcome(Enum):
    """How a driven connection ended."""

    CLOSED = auto()
    ABORTED = auto()
    UPGRADED = auto()
    AGED = auto()


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
        self._deadlines = Deadlines(machinery.patience)
        self._down = downstream
        self._relay = relay
        self._upstreams = upstreams
        self._teller = teller
        self._up: UpstreamConnection | None = None
        self._phase: Phase | None = None
        self._exchange: Exchange | None = None
        self._ending: Outcome | None = None
        self._error: BaseException | None = None
        self._dialling: trio.CancelScope | None = None
        self._woken = trio.Event()
        self.deadline = float("inf")

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
        self._deadlines.live_for(valid_for, trio.current_time())
        outcome: Outcome | None = None
        try:
            self._engine.watch(self._down.sock, self._on_downstream)
            self._sweeper.add(self)
            self._guarded(self._pull_downstream)
            outcome = await self._attend()
        except trio.Cancelled:
            self._cut_short()
            raise
        finally:
            self._sweeper.discard(self)
            if outcome is not Outcome.UPGRADED:
                self._engine.forget(self._down.sock)
                self._drop_upstream()
                self._down.release()
                if outcome is not Outcome.CLOSED:
                    reset(self._down.sock)
        if outcome is Outcome.CLOSED:
            await linger(self._down.sock)
        return outcome

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without a request.

        Ending an idle connection at once would meet the request that is on its way.
        """
        self._relay.drain()
        now = trio.current_time()
        self._deadlines.drain(now + grace, now)
        self._set_deadline()

    # The owner's task.

    async def _attend(self) -> Outcome:
        while self._ending is None or (self._ending is Outcome.CLOSED and self._down.waiting):
            await self._woken.wait()
            self._woken = trio.Event()
            if self._error is not None:
                raise self._error
            if self._relay.phase is Phase.CONNECTING and self._up is None:
                await self._dial()
        if self._error is not None:
            raise self._error
        return self._ending

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

    def _cut_short(self) -> None:
        """Tell the end of an exchange whose connection is cut at the end of the drain."""
        now, exchange = trio.current_time(), self._relay.exchange
        if self._relay.phase is Phase.UPGRADED:
            exchange.ended = now
            self._teller.finished(exchange, self._up)
            return
        self._relay.downstream_lost("cut at the end of the drain", now)
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
        return self._guarded(self._pull_upstream, connection)

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed (called by the sweeper)."""
        self._guarded(self._expire, now)

    def _guarded(self, step: Callable[..., bool | None], *arguments: object) -> bool:
        """Run one step; whatever it raises ends this connection and no other. False: the socket is not drained."""
        if self._error is not None or self._ending in {Outcome.ABORTED, Outcome.UPGRADED, Outcome.AGED}:
            return False
        try:
            return step(*arguments) is not False
        except BaseException as error:  # noqa: BLE001 - the owner raises it: a bug or Ctrl-C surfaces there
            self._error = error
            self._woken.set()
            return False

    # Moving bytes.

    @property
    def _is_downstream_of_use(self) -> bool:
        """Whether the machine can take more of the caller, and those it would pass it to take what they have."""
        relay = self._relay
        if self._up is not None and self._up.channel.waiting:
            return False
        # A caller that does not read its answers is asked no further: each question would cost memory here.
        if self._down.waiting and relay.phase is Phase.IDLE:
            return False
        return relay.wants_downstream or relay.held_back

    def _pull_downstream(self, events: int = 0) -> bool:
        relay, down = self._relay, self._down
        share = _FAIR_SHARE
        while self._is_downstream_of_use:
            if not share:
                self._engine.resume(down.sock)
                return False
            share -= 1
            if relay.held_back:
                relay.proceed(trio.current_time())
                self._act()
                continue
            try:
                data = down.receive()
            except ChannelBroken as broken:
                relay.downstream_lost(str(broken), trio.current_time())
                self._act()
                return False
            if data:
                self._deadlines.moved += len(data)
                relay.feed(data, trio.current_time())
            if down.ended:
                relay.downstream_ended(trio.current_time())
            self._act()
            if (down.drained and not relay.held_back) or self._ending is not None:
                return down.drained and not down.ended
        if events & SEVERED:
            # It is not read now, so only the kernel can tell that the caller is gone.
            relay.downstream_lost("the caller went away", trio.current_time())
            self._act()
        return False

    def _flush_downstream(self) -> None:
        before = self._down.waiting
        try:
            self._down.flush()
        except ChannelBroken as broken:
            if self._ending is Outcome.CLOSED:  # our last words were not heard
                self._end(Outcome.ABORTED)
                return
            self._relay.downstream_lost(str(broken), trio.current_time())
            self._act()
            return
        self._deadlines.moved += before - self._down.waiting
        if self._down.waiting:
            return
        if self._ending is Outcome.CLOSED:
            self._woken.set()
            return
        if self._up is not None:
            self._engine.resume(self._up.channel.sock)
        self._resume_downstream()

    def _pull_upstream(self, connection: UpstreamConnection) -> bool:
        relay, channel = self._relay, connection.channel
        share = _FAIR_SHARE
        while self._up is connection and self._ending is None and not self._down.waiting:
            if not share:
                self._engine.resume(channel.sock)
                return False
            share -= 1
            try:
                data = channel.receive()
            except ChannelBroken as broken:
                relay.upstream_lost(str(broken), trio.current_time())
                self._act()
                return False
            if data:
                self._deadlines.moved += len(data)
                relay.feed_response(data, trio.current_time())
            if channel.ended:
                relay.upstream_ended(trio.current_time(), clean=channel.ended_cleanly)
            self._act()
            if channel.drained:
                return not channel.ended
        return False

    def _flush_upstream(self) -> None:
        connection = self._up
        if connection is None:
            return
        before = connection.channel.waiting
        try:
            connection.channel.flush()
        except ChannelBroken as broken:
            self._relay.upstream_lost(str(broken), trio.current_time())
            self._act()
            return
        self._deadlines.moved += before - connection.channel.waiting
        self._resume_downstream()

    def _resume_downstream(self) -> None:
        """Come back to the caller where it was left; an edge fires once."""
        if (self._relay.held_back or not self._down.drained) and self._is_downstream_of_use:
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
        self._resume_downstream()
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
            self._part_with_upstream(self._upstreams.pool.give_back)
        elif need is Need.CLOSE_UPSTREAM:
            self._part_with_upstream(self._upstreams.pool.close)
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

    def _part_with_upstream(self, how: Callable[[UpstreamConnection], None]) -> None:
        connection, self._up = self._up, None
        if connection is not None:
            how(connection)

    def _drop_upstream(self) -> None:
        self._part_with_upstream(self._upstreams.pool.drop)

    def _send_upstream(self) -> None:
        data = b"".join(self._relay.to_upstream)
        self._relay.to_upstream.clear()
        if self._up is None or not data:
            return
        try:
            self._up.channel.send(data)
        except ChannelBroken as broken:
            self._relay.upstream_lost(str(broken), trio.current_time())

    def _send_downstream(self) -> None:
        data = b"".join(self._relay.to_downstream)
        self._relay.to_downstream.clear()
        if not data:
            return
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
        phase, exchange = self._relay.phase, self._relay.exchange
        if phase is self._phase and exchange is self._exchange:
            return  # a phase of another exchange begins anew, also where no other lay between the two
        if self._phase is Phase.CONNECTING and self._dialling is not None:
            self._dialling.cancel()
        self._phase, self._exchange = phase, exchange
        nothing_asked = exchange.head is None and not exchange.status
        self._deadlines.enter(phase, self._sweeper.now, first=nothing_asked)
        self._set_deadline()

    def _set_deadline(self) -> None:
        ends_at = float("inf") if self._up is None else self._up.ends_at
        self.deadline = min(self._deadlines.earliest, ends_at)

    def _expire(self, now: float) -> None:
        up = self._up
        waiting = Waiting(bool(self._down.waiting), up is not None and bool(up.channel.waiting))
        due = self._deadlines.due(now, waiting)
        if due is Due.CUT or (up is not None and now >= up.ends_at):
            self._relay.downstream_lost("a certificate of this connection has expired", now)
            self._act()
            self._end(Outcome.AGED)
            return
        if due is Due.WIND_DOWN:
            self.drain((self._deadlines.cut_at - now) / 2)
        elif due is Due.UPSTREAM_STALLED:
            self._relay.upstream_stalled(now)
        elif due is Due.TIMED_OUT and self._phase is Phase.OVER:
            self._end(Outcome.ABORTED)  # our last words are not being read
        elif due is Due.TIMED_OUT:
            self._relay.timed_out(now)
        self._act()
        self._set_deadline()
