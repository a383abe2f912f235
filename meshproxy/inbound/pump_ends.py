"""How a driven HTTP connection ends: at its last answer, or when its time is up.

The state of the `pump` lives here, for how it may end depends on all of it.
"""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from random import Random
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import Failure
from meshproxy.http.phase import Phase
from meshproxy.inbound.deadlines import PUT_OFF, Deadlines, Due, Waiting
from meshproxy.inbound.machinery import Outcome, clock
from meshproxy.wire.channel import ChannelBroken
from meshproxy.wire.closing import LINGER_BYTES, LINGER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Exchange
    from meshproxy.http.relay import HttpRelay
    from meshproxy.inbound.machinery import Machinery, Teller
    from meshproxy.upstream.pool import UpstreamConnection, Upstreams
    from meshproxy.wire.channel import Channel

_NEVER = float("inf")

# No request is going on.
_BETWEEN = frozenset({Phase.IDLE, Phase.PUT_OFF, Phase.OVER, Phase.UPGRADED})


def _nobody() -> None:
    """Nobody owns it yet: who does looks how it stands."""


_TOO_OLD = "the connection is older than max_connection_age"

# Who is put off is so for a share of the time from here on: not all for the same, or they would all come again at once.
_SOONEST = 0.66
_DICE = Random()  # noqa: S311 - nothing secret hangs on it


class Ends(ABC):
    """What one connection has come to, and the ways it can end; see `Pump`."""

    def __init__(
        self, machinery: Machinery, downstream: Channel, relay: HttpRelay, upstreams: Upstreams, teller: Teller
    ) -> None:
        self._engine = machinery.engine
        self._sweeper = machinery.sweeper
        self._deadlines = Deadlines(machinery.patience)
        self._upstreams = upstreams
        self._teller = teller
        self._phase: Phase | None = None  # the one the deadlines know of
        self._exchange: Exchange | None = None
        self._is_over = False  # no callback does anything any more
        self._to_discard: int | None = None  # lingering: how much more of the caller's talk is thrown away
        self.down = downstream
        self.relay = relay
        self.up: UpstreamConnection | None = None
        self.ending: Outcome | None = None
        self.error: BaseException | None = None
        self.is_taken_back = False  # its next request is let in, whether there is room or not
        self.dialling: trio.CancelScope | None = None  # the owner's, while it dials
        self.wake: Callable[[], None] = _nobody  # the owner, when there is something that callbacks cannot do
        self.deadline = _NEVER

    @property
    def is_over(self) -> bool:
        """Whether nothing more is said or heard: the socket is to be closed, in the way of its `ending`."""
        return self._is_over

    def __repr__(self) -> str:
        return f"<Pump {self.relay!r} down={self.down!r} up={self.up!r} ending={self.ending}>"

    def live_for(self, seconds: float) -> None:
        """Cut the connection after so many seconds at the latest."""
        now = trio.current_time()
        self._deadlines.since = self._sweeper.now
        self._deadlines.live_for(seconds, now)
        self._look_again(now)

    def drain(self, grace: float) -> None:
        """End with the current answer; when idle, with the next, or after `grace` seconds without a request."""
        if self._to_discard is not None:
            return
        self.relay.drain()
        now = trio.current_time()
        self._look_again(now)
        self._deadlines.drain(now + grace, now)
        self._look_again(now)

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed (called by the sweeper)."""
        if self._is_over:
            return
        try:
            if not self._rests(now):
                self._expire(now)
        except BaseException as error:  # noqa: BLE001 - see the class
            self._fail(error)

    def revoke(self, why: str) -> None:
        """Cut the connection at once, in the middle of whatever is said: its caller is believed no more.

        One that was upgraded is somebody else's to cut.
        """
        if self._is_over:
            return
        try:
            if self._to_discard is None:
                self.relay.downstream_lost(why, clock(), Failure.REVOKED)
                self._act(clock())
            self._end(Outcome.ABORTED)
        except BaseException as error:  # noqa: BLE001 - see the class
            self._fail(error)

    def on_upstream_revoked(self, connection: UpstreamConnection, why: str) -> None:
        """See `upstream.pool.User`: to the exchange it is as if the far end had broken off."""
        if self._is_over or self.up is not connection:
            return
        try:
            now = clock()
            self.relay.upstream_lost(why, now, Failure.IDENTITY)
            self._act(now)
            self._resume_downstream()
        except BaseException as error:  # noqa: BLE001 - see the class
            self._fail(error)

    def _fail(self, error: BaseException) -> bool:
        self.error, self._is_over = error, True
        self.wake()
        return False

    @abstractmethod
    def _act(self, now: float) -> None:
        """Carry out what the machine says."""

    @abstractmethod
    def _begin_phase(self) -> None:
        """Take that the machine stands in a phase that has begun just now."""

    @abstractmethod
    def _lose_downstream(self, detail: str) -> None:
        """Take that the caller is gone."""

    @abstractmethod
    def _resume_downstream(self) -> None:
        """Come back to the caller where it was left."""

    def _end(self, how: Outcome) -> None:
        if self.dialling is not None:
            self.dialling.cancel()
        if how is Outcome.CLOSED:
            try:
                self.down.finish()
            except ChannelBroken:
                how = Outcome.ABORTED
        self.ending = how
        if how is not Outcome.CLOSED:
            self._be_over()
        elif not self.down.waiting:
            self._linger()

    def _be_over(self) -> None:
        self._is_over = True
        self.wake()

    # As `wire.closing.linger`, but without a task that wakes for it.

    def _linger(self) -> None:
        """Wait for the end of the caller, who is told of ours; what it still says is of no use."""
        self._to_discard = LINGER_BYTES
        self.deadline = self._sweeper.within(LINGER_SECONDS)
        with contextlib.suppress(OSError):
            self.down.sock.shutdown(socket.SHUT_WR)
        if not self.down.drained:
            self._engine.resume(self.down.sock)

    def _discard(self, most: int) -> bool:
        """Throw away what the caller says; whether its socket was drained."""
        try:
            while most > 0 and (received := len(self.down.sock.recv(LINGER_BYTES))):
                most = self._to_discard = most - received
        except BlockingIOError:
            return True
        except OSError:
            pass
        self._be_over()
        return False

    # Deadlines.

    def _look_again(self, now: float) -> None:
        """Look at the deadlines, and set when the sweeper is to come back.

        At the next end that is known, and before any could have come up that is not known yet: so nothing needs to be
        set when a phase begins, which is several times per request.
        """
        deadlines, relay = self._deadlines, self.relay
        exchange = relay.exchange
        deadlines.look(relay.phase, first=exchange.head is None and not exchange.status)
        # What the exchange is timed by is another clock than that of deadlines; both tell seconds.
        deadlines.request_began(_NEVER if relay.phase in _BETWEEN else now - (clock() - exchange.started))
        ends_at = _NEVER if self.up is None else self.up.ends_at
        self.deadline = min(deadlines.earliest, now + deadlines.shortest, ends_at)

    def _put_off(self) -> None:
        """Come back to the caller when it may ask again: sooner than whoever else has nothing to wait for."""
        if self.is_taken_back:
            self.relay.hear_again(early=False)
            return
        self._begin_phase()
        self._deadlines.put_off = PUT_OFF * _DICE.uniform(_SOONEST, 1.0)
        self._look_again(trio.current_time())

    def _hear_again(self) -> None:
        """Listen to a caller that was put off; what it has said too early is refused while there is a bound.

        Also if it is taken back, for what has waited so long would make a slow answer: but then it may ask on.
        """
        relay, flight = self.relay, self._upstreams.pool.flight
        is_early = (not self.down.drained or relay.has_more) and not relay.hears_early and flight.is_bounded
        self.is_taken_back = is_early and flight.takes_back()
        relay.hear_again(early=is_early)

    def _rests(self, now: float) -> bool:
        """Whether nothing is asked, and nothing was since the last look; if so, set when the next one is to be.

        Most of thousands have nothing to say at any time, and all are looked at every few seconds.
        """
        deadlines, exchange = self._deadlines, self.relay.exchange
        first = exchange.head is None and not exchange.status
        is_busy = self.up is not None or self._to_discard is not None
        if is_busy or not deadlines.rests(self.relay.phase, now, first=first):
            return False
        self.deadline = min(deadlines.earliest, now + deadlines.shortest)
        return True

    def _expire(self, now: float) -> None:
        if self._to_discard is not None:
            self._be_over()
            return
        up = self.up
        waiting = Waiting(bool(self.down.waiting), up is not None and bool(up.channel.waiting))
        self._look_again(now)
        due = self._deadlines.due(now, waiting)
        if self._deadlines.limit:
            self._teller.reached(self._deadlines.limit)
        if due is Due.CUT or (up is not None and now >= up.ends_at):
            is_too_old = due is Due.CUT and self._deadlines.ages_by
            self._lose_downstream(_TOO_OLD if is_too_old else "a certificate of this connection has expired")
            self._end(Outcome.AGED)
            return
        if due is Due.WIND_DOWN:
            self.drain((self._deadlines.cut_at - now) / 2)
        elif due is Due.UPSTREAM_STALLED:
            self.relay.upstream_stalled(clock())
        elif due is Due.TIMED_OUT and self._phase is Phase.PUT_OFF:
            self._hear_again()
        elif due is Due.TIMED_OUT and self._phase is Phase.OVER:
            self._end(Outcome.ABORTED)  # our last words are not being read
        elif due is Due.TIMED_OUT:
            self.relay.timed_out(clock())
        self._act(clock())
        if self._to_discard is None:  # else it is the lingering that has a deadline now
            self._look_again(now)
            self._resume_downstream()
