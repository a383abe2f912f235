"""Drives one HTTP connection from its first byte to its end: the task that owns it, and waits for what takes time.

The bytes are the `pump`'s. The task wakes when an upstream has to be dialled, and at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.errors import Failure
from meshproxy.http.phase import Phase
from meshproxy.inbound.brake import PatientPump
from meshproxy.inbound.machinery import Outcome, clock
from meshproxy.inbound.pump import Pump
from meshproxy.limits.flight import OVERLOAD
from meshproxy.upstream.queue import NoUpstreamConnection
from meshproxy.wire.closing import reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Exchange
    from meshproxy.http.relay import HttpRelay
    from meshproxy.inbound.machinery import Machinery, Teller
    from meshproxy.upstream.pool import UpstreamConnection, Upstreams
    from meshproxy.wire.channel import Channel


class HttpDriver:
    """The owner of one downstream connection and of the upstream its current exchange has."""

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
        self._upstreams = upstreams
        self._teller = teller
        self._is_new = True  # no request of it had to wait for an upstream connection
        self._was_refused = False  # the last time that its request had to wait for an upstream connection
        kind = Pump if machinery.gate is None else PatientPump
        self._pump = kind(machinery, downstream, relay, upstreams, teller)
        self._news: trio.Event | None = None  # for the task that waits for them
        self._is_woken = False

    def __repr__(self) -> str:
        return f"<HttpDriver {self._pump!r}>"

    @property
    def downstream(self) -> Channel:
        """The caller's connection."""
        return self._pump.down

    @property
    def exchange(self) -> Exchange:
        """What is asked now, or was last."""
        return self._pump.relay.exchange

    @property
    def upstream(self) -> UpstreamConnection | None:
        """The upstream connection of an upgraded exchange, which is the caller's from then on."""
        return self._pump.up

    async def run(self, *, valid_for: float) -> Outcome:
        """Carry exchanges until the connection is over; `valid_for` seconds at most. As `begin` and `attend`."""
        self.begin(self._wake, valid_for=valid_for)
        return await self.attend()

    def begin(self, on_news: Callable[[], None], *, valid_for: float) -> None:
        """Begin to carry exchanges, for so many seconds at most.

        `on_news` is called, perhaps within a callback, when it `is_over` and is to `end`, or somebody must `attend`.
        """
        pump, sock = self._pump, self._pump.down.sock
        pump.wake = on_news
        pump.live_for(valid_for)
        try:
            self._engine.watch(sock, pump.on_downstream)
        except BaseException:
            self._let_go(None)
            raise
        self._sweeper.add(pump)
        pump.on_downstream(0)

    async def attend(self) -> Outcome:
        """Do what callbacks cannot until the connection is over.

        The sockets of an upgraded connection are the caller's; otherwise both are closed on return. Raises what a
        callback raised.
        """
        self._pump.wake = self._wake
        outcome: Outcome | None = None
        try:
            outcome = await self._attend()
        except trio.Cancelled:
            self._cut_short()
            raise
        finally:
            self._let_go(outcome)
        return outcome

    # For a connection without a task.

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do but to `end` it."""
        pump = self._pump
        return pump.is_over and pump.error is None and pump.ending is not Outcome.UPGRADED

    def end(self) -> None:
        """Close the sockets of a connection that is over; never within a callback, for a batch may know them still."""
        self._let_go(self._pump.ending)

    def cut(self) -> None:
        """End it at once, in the middle of whatever is said, at the end of a drain."""
        self._pump.wake = self._wake  # nobody is to be called by what follows
        self._cut_short()
        self._let_go(None)

    def _wake(self) -> None:
        self._is_woken = True
        if self._news is not None:
            self._news.set()

    def _let_go(self, outcome: Outcome | None) -> None:
        pump, sock = self._pump, self._pump.down.sock
        self._sweeper.discard(pump)
        if outcome is Outcome.UPGRADED and pump.up is not None:
            self._upstreams.pool.lend()
            return
        self._engine.forget(sock)
        pump.drop_upstream()
        pump.down.release()
        if outcome is Outcome.CLOSED:
            sock.close()
        else:
            reset(sock)

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without a request.

        Ending an idle connection at once would meet the request that is on its way.
        """
        self._pump.drain(grace)

    def revoke(self, why: str) -> None:
        """Cut the connection at once: its caller is believed no more."""
        self._pump.revoke(why)

    async def _attend(self) -> Outcome:
        pump = self._pump
        while True:
            self._is_woken = False
            if pump.error is not None:
                raise pump.error
            if pump.is_over and pump.ending is not None:
                return pump.ending
            if pump.relay.phase is Phase.CONNECTING and pump.up is None:
                await self._dial()
            elif not self._is_woken:
                self._news = trio.Event()
                await self._news.wait()
                self._news = None

    async def _dial(self) -> None:
        pump, pool, teller = self._pump, self._upstreams.pool, self._teller
        exchange, begun = pump.relay.exchange, clock()
        if exchange.trace is not None:
            exchange.trace.attempt_began = begun
        with trio.CancelScope() as pump.dialling:
            try:
                connection = self._admitted() or await pool.fetch(
                    self._upstreams, lambda failure: teller.upstream_failed(failure, exchange)
                )
            except NoUpstreamConnection as failed:
                self._was_refused = True
                pump.relay.upstream_failed(failed.failure, str(failed), clock(), limit=failed.limit)
            else:
                self._was_refused = pump.is_taken_back = False
                if pump.relay.phase is Phase.CONNECTING:
                    pump.attach(connection, clock())
                else:  # the caller went away meanwhile
                    pool.give_back(connection)
        pump.dialling = None
        teller.waited(clock() - begun)
        pump.act()

    def _admitted(self) -> UpstreamConnection | None:
        """Return a connection that has come to rest since one was asked for, if any.

        Who was let in before may go on. Of those who were refused some are let in where others are not: who asks when
        it is answered finds room more often than who comes from outside, and these would never be served.

        Raises NoUpstreamConnection for whom there is no room.
        """
        flight, exchange = self._upstreams.pool.flight, self._pump.relay.exchange
        is_new, self._is_new = self._is_new, False
        if not flight.is_bounded or exchange.resent:
            return None
        # Its handshake has cost as much as twenty requests: the first one is not what there is too much of.
        if is_new and not flight.is_overloaded:
            return self._upstreams.resting()
        is_taken_back = self._pump.is_taken_back or (self._was_refused and flight.takes_back())
        if not is_taken_back and not flight.has_room():
            detail = f"{flight.count} requests in flight, and the loop {flight.lag * 1000:.0f} ms behind"
            raise NoUpstreamConnection(Failure.OVERLOADED, detail, limit=OVERLOAD)
        return self._upstreams.resting()

    def _cut_short(self) -> None:
        """Tell the end of an exchange whose connection is cut at the end of the drain."""
        pump, now = self._pump, clock()
        if pump.relay.phase is Phase.UPGRADED:
            exchange = pump.relay.exchange
            exchange.ended = now
            self._teller.finished(exchange, pump.up)
            return
        pump.relay.downstream_lost("cut at the end of the drain", now)
        pump.act()
