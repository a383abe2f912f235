"""Moves one HTTP connection on: callbacks of the engine feed the machine and send what it says.

A request on a keep-alive connection with a resting upstream costs two callbacks and nothing else: no task is woken, no
exception raised, nothing armed. What takes time is left to the task that owns the connection (`driver`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.http.phase import Need, Phase
from meshproxy.inbound.machinery import Outcome, clock
from meshproxy.inbound.pump_says import Says
from meshproxy.wire.channel import ChannelBroken
from meshproxy.wire.readiness import READ, SEVERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.upstream.pool import UpstreamConnection
    from meshproxy.wire.channel import Channel

# What every request has to do with; looking a member up in its class takes 0.1 us on Python 3.11.
_UPSTREAM, _RELEASE_UPSTREAM = Need.UPSTREAM, Need.RELEASE_UPSTREAM
_IDLE, _BODY, _ANSWERING = Phase.IDLE, Phase.BODY, Phase.ANSWERING

_UNAVAILABLE = 503  # RFC 9110 section 15.6.4: for a while

_ENDINGS = {Need.CLOSE: Outcome.CLOSED, Need.ABORT: Outcome.ABORTED, Need.UPGRADE: Outcome.UPGRADED}


class Pump(Says):
    """One downstream connection and the upstream its current exchange has, if any.

    Whatever a callback raises ends this connection and no other: it is kept in `error`, the owner is woken, and nothing
    is done any more.
    """

    # Callbacks of the engine and the sweeper, and steps of the owner.

    def on_downstream(self, events: int) -> bool:
        """Take the engine's events for the caller's socket; 0: look what is there."""
        if self._is_over:
            return False
        try:
            down = self.down
            if events & ~READ:
                self._notice_downstream(events)
            elif events:
                down.drained = False
            if down.waiting or not self.relay.rests():
                return self._pull_downstream(events)
            return self._hear()
        except BaseException as error:  # noqa: BLE001 - see the class
            return self._fail(error)

    def on_upstream(self, connection: UpstreamConnection, events: int) -> bool:
        """Take the engine's events for the upstream connection of the current exchange."""
        if self._is_over:
            return False
        try:
            if events & ~READ:
                self._notice_upstream(connection.channel, events)
            elif events:
                connection.channel.drained = False
            return self._pull_upstream(connection)
        except BaseException as error:  # noqa: BLE001 - see the class
            return self._fail(error)

    def act(self) -> None:
        """Carry out what the machine makes of what the owner has told it."""
        if self._is_over:
            return
        try:
            self._act(clock())
            self._resume_downstream()
        except BaseException as error:  # noqa: BLE001 - see the class
            self._fail(error)

    # Moving bytes.

    def _wants_downstream(self) -> bool:
        """Whether the machine can take more of the caller, and those it would pass it to take what they have."""
        relay = self.relay
        if self.up is not None and self.up.channel.waiting:
            return False
        # A caller that does not read its answers is asked no further: each question would cost memory here.
        if self.down.waiting and relay.phase is _IDLE:
            return False
        return relay.wants_downstream or relay.held_back

    # One read per callback: whoever has more comes again behind the others, so a bulk stream delays a small message by
    # one chunk at most.

    def _pull_downstream(self, events: int) -> bool:
        """Take of the caller what can be used now; whether its socket was drained."""
        if self._to_discard is not None:
            return self._discard(self._to_discard)
        relay = self.relay
        if not self._wants_downstream():
            if events & SEVERED:
                # It is not read now, so only the kernel can tell that the caller is gone.
                self._lose_downstream("the caller went away")
            return False
        if not relay.held_back:
            return self._hear()
        now = clock()
        relay.proceed(now)
        self._act(now)
        return self._leave_downstream()

    def _hear(self) -> bool:
        """Read once, and take what the caller says; whether its socket was drained."""
        relay, down = self.relay, self.down
        try:
            data = down.receive() if relay.phase is not _BODY else self._carry()
        except ChannelBroken as broken:
            self._lose_downstream(str(broken))
            return False
        now = clock()
        if data:
            if relay.take_request(data, now) and self._ask(now) and not down.ended:
                return True if down.drained else self._leave_downstream()
            self._deadlines.moved += len(data)
        if down.ended:
            relay.downstream_ended(now)
        self._act(now)
        return self._leave_downstream()

    def _leave_downstream(self) -> bool:
        """Turn to the others; whether the caller's socket was drained."""
        if not self.down.drained or self.relay.held_back:
            self._resume_downstream()
            return False
        return not self.down.ended

    def _notice_downstream(self, events: int) -> None:
        """Take a hint of an end, or of room."""
        self.down.hint(events)
        if self.down.waiting:
            self._flush_downstream()

    def _flush_downstream(self) -> None:
        down = self.down
        before = down.waiting
        try:
            down.flush()
        except ChannelBroken as broken:
            if self.ending is Outcome.CLOSED:  # our last words were not heard
                self._end(Outcome.ABORTED)
            else:
                self._lose_downstream(str(broken))
            return
        self._deadlines.moved += before - down.waiting
        if down.waiting:
            return
        if self.ending is Outcome.CLOSED:
            self._linger()
            return
        if self.up is not None:
            self._engine.resume(self.up.channel.sock)
        self._resume_downstream()

    def _pull_upstream(self, connection: UpstreamConnection) -> bool:
        """Take of the upstream what the caller takes now; whether its socket was drained."""
        down = self.down
        if self.up is not connection or down.waiting or self.ending is not None:
            return False
        relay, channel = self.relay, connection.channel
        try:
            data = channel.receive() if relay.phase is not _ANSWERING else self._pass_back(channel)
        except ChannelBroken as broken:
            self._lose_upstream(str(broken))
            self._resume_downstream()
            return False
        now = clock()
        if data:
            answer = relay.take_answer(data, now)
            if answer is not None and self._pass_on(answer, connection, now):
                if not down.drained:
                    self._resume_downstream()
                return channel.drained and not channel.ended
            self._deadlines.moved += len(data)
        if channel.ended:
            relay.upstream_ended(now, clean=channel.ended_cleanly)
        self._act(now)
        if not down.drained or relay.held_back:
            self._resume_downstream()
        if channel.drained:
            return not channel.ended
        if self.up is connection:
            self._engine.resume(channel.sock)
        return False

    def _notice_upstream(self, channel: Channel, events: int) -> None:
        channel.hint(events)
        if channel.waiting:
            self._flush_upstream()
            self._resume_downstream()

    def _flush_upstream(self) -> None:
        if self.up is None:
            return
        channel = self.up.channel
        before = channel.waiting
        try:
            channel.flush()
        except ChannelBroken as broken:
            self._lose_upstream(str(broken))
            return
        self._deadlines.moved += before - channel.waiting

    def _resume_downstream(self) -> None:
        """Come back to the caller where it was left; an edge fires once."""
        if (self.relay.held_back or not self.down.drained) and self._wants_downstream():
            self._engine.resume(self.down.sock)

    def _lose_downstream(self, detail: str) -> None:
        now = clock()
        self.relay.downstream_lost(detail, now)
        self._act(now)

    def _lose_upstream(self, detail: str) -> None:
        now = clock()
        self.relay.upstream_lost(detail, now)
        self._act(now)

    # The short ways of what came whole: the machine hands it over, and what it would have asked for is done at once.

    def _ask(self, now: float) -> bool:
        """Send a whole request over a connection that rests, if one does: the owner is to get one otherwise.

        Whether that went well, so that there is nothing to act on.
        """
        connection = self._upstreams.resting()
        if connection is None:
            self.wake()
            return False
        relay, channel = self.relay, connection.channel
        self._take_upstream(connection)
        try:
            channel.send(relay.ask(connection.responses, now, reused=connection.used))
        except ChannelBroken as broken:
            relay.upstream_lost(str(broken), now)
            return False
        # As `_begin_phase`, but nobody dials, and nothing that moves counts in this phase, nor in the next.
        self._phase, self._exchange = relay.phase, relay.exchange
        self._deadlines.since = self._sweeper.now
        return True

    def _pass_on(self, answer: bytes, connection: UpstreamConnection, now: float) -> bool:
        """Send a whole answer, tell of its exchange, and let its upstream connection rest; as `_ask`."""
        relay = self.relay
        try:
            self.down.send(answer)
        except ChannelBroken as broken:
            relay.downstream_lost(str(broken), now)
        self._teller.answered(relay.exchange, connection)
        self.up = None
        self._let_rest(connection)
        if relay.needs:
            return False
        self._phase = relay.phase
        self._deadlines.since = self._sweeper.now
        return True

    def _let_rest(self, connection: UpstreamConnection) -> None:
        """Leave the connection of the exchange that is over to whoever needs one next."""
        pool = self._upstreams.pool
        if self._exchange is not None and self._exchange.status == _UNAVAILABLE:
            pool.set_aside(connection)
        else:
            pool.give_back(connection)

    # Carrying out what the machine says.

    def _act(self, now: float) -> None:
        relay = self.relay
        while True:
            if relay.to_upstream:
                self._send_upstream(now)
            if relay.to_downstream:
                self._send_downstream(now)
            if relay.finished:
                for exchange in relay.finished:
                    self._teller.finished(exchange, self.up)
                relay.finished.clear()
            if not relay.needs:
                break
            self._carry_out(relay.needs.popleft(), now)
        # A phase of another exchange begins anew, also where no other lay between the two.
        if relay.phase is not self._phase or relay.exchange is not self._exchange:
            self._begin_phase()

    def _begin_phase(self) -> None:
        """Take that the machine stands in a phase that has begun just now."""
        self._phase, self._exchange = self.relay.phase, self.relay.exchange
        deadlines = self._deadlines
        deadlines.since, deadlines.moved = self._sweeper.now, 0
        if self.dialling is not None:
            self.dialling.cancel()  # the exchange it was for has ended, or has its upstream

    def _carry_out(self, need: Need, now: float) -> None:
        pool = self._upstreams.pool
        if need is _UPSTREAM:
            connection = self._upstreams.resting()
            if connection is not None:
                self.attach(connection, now)
            else:
                self.wake()
        elif need is _RELEASE_UPSTREAM:
            self._part_with_upstream(self._let_rest)
        elif need is Need.FRESH_UPSTREAM:
            self.wake()
        elif need is Need.CLOSE_UPSTREAM:
            self._part_with_upstream(pool.close)
        elif need is Need.DROP_UPSTREAM:
            self._part_with_upstream(pool.drop)
        elif need is Need.PUT_OFF:
            self._put_off()
        else:
            self._end(_ENDINGS[need])

    def attach(self, connection: UpstreamConnection, now: float) -> None:
        """Give the current exchange its upstream connection; `now` by `clock`."""
        self._take_upstream(connection)
        self.relay.attach(connection.responses, now, reused=connection.used)

    def _take_upstream(self, connection: UpstreamConnection) -> None:
        self.up, connection.user = connection, self
        if connection.ends_at < self.deadline:  # noqa: PLR1730 - `min` takes ten times as long
            self.deadline = connection.ends_at
        if not connection.channel.drained:
            self._engine.resume(connection.channel.sock)

    def drop_upstream(self) -> None:
        """End the upstream connection, if there is one, by RST."""
        self._part_with_upstream(self._upstreams.pool.drop)

    def _part_with_upstream(self, how: Callable[[UpstreamConnection], None]) -> None:
        connection, self.up = self.up, None
        if connection is not None:
            how(connection)
