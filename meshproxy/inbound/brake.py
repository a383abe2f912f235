"""Back-pressure of the audit log: while it has little room, no further question is read from callers.

Under `when_full = "wait"`. What was begun goes on; a caller who has waited for `LONGEST` is heard all the same, and
refused if there is no room still. Somebody who asks many things at once may be judged on more than one of them
meanwhile; for those the other half of the room is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshproxy.inbound.pump import Pump
from meshproxy.wire.fiber import in_task
from meshproxy.wire.readiness import SEVERED

if TYPE_CHECKING:
    from meshproxy.audit.journal import Journal
    from meshproxy.http.relay import HttpRelay
    from meshproxy.inbound.audited import Witness
    from meshproxy.inbound.machinery import Gate, Machinery, Teller, Waiter
    from meshproxy.upstream.pool import Upstreams
    from meshproxy.wire.channel import Channel

LONGEST: Final = 5.0  # seconds; within the time that a new connection has for its first byte, by default
_LOOK_EVERY: Final = 0.02  # seconds, while anybody waits


class Brake:
    """Holds the callers of a sidecar; there are no more of them than it has connections."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: dict[Waiter, float] = {}  # since when, by trio's clock
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Brake holds {len(self._held)}>"

    def hold(self, waiter: Waiter) -> None:
        """Let a connection wait, until there is room or it has waited long enough."""
        self._held.setdefault(waiter, trio.current_time())
        self._news.set()

    async def run(self) -> None:
        """Let them go on when they may; until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._held:
                await trio.sleep(_LOOK_EVERY)
                self._release(trio.current_time() - LONGEST, crowded=self._journal.crowded)

    def _release(self, oldest: float, *, crowded: bool) -> None:
        for waiter in [each for each, since in self._held.items() if not crowded or since <= oldest]:
            del self._held[waiter]
            waiter.go_on(insistently=crowded)


async def wait_for_room(gate: Gate) -> bool:
    """Wait until a connection may be judged, for `LONGEST` at most; returns whether there was anything to wait for."""
    if not gate.is_shut:
        return False
    await in_task()
    with trio.move_on_after(LONGEST):
        while gate.is_shut:  # noqa: ASYNC110 - the thread that makes room wakes nobody
            await trio.sleep(_LOOK_EVERY)
    return True


class AuditGate:
    """The brake as one listener has it; see `meshproxy.inbound.machinery.Gate`."""

    __slots__ = ("_brake", "_witness")

    def __init__(self, brake: Brake, witness: Witness) -> None:
        self._brake = brake
        self._witness = witness

    def __repr__(self) -> str:
        return f"<AuditGate {self._brake!r} {self._witness!r}>"

    @property
    def is_shut(self) -> bool:
        """Whether the audit log has little room, and is wanted here."""
        return self._witness.wants_room

    def hold(self, waiter: Waiter) -> None:
        """See `Brake.hold`."""
        self._brake.hold(waiter)


class PatientPump(Pump):
    """A pump that lets a caller's next request lie in the socket while there is no room for what becomes of it."""

    def __init__(
        self, machinery: Machinery, downstream: Channel, relay: HttpRelay, upstreams: Upstreams, teller: Teller
    ) -> None:
        super().__init__(machinery, downstream, relay, upstreams, teller)
        if machinery.gate is None:
            raise ValueError("without a gate nothing has to be waited for")
        self._gate = machinery.gate
        self._insists = False  # it has waited long enough: heard once, whatever follows

    def on_downstream(self, events: int) -> bool:
        """See `Pump.on_downstream`."""
        if self._gate.is_shut and not self._insists and self._may_wait(events):
            self.down.drained = False
            self._gate.hold(self)
            return False
        self._insists = False
        return super().on_downstream(events)

    def go_on(self, *, insistently: bool) -> None:
        """Read on, even if there is no room when `insistently`."""
        self._insists = insistently
        if not self.is_over:
            self._engine.resume(self.down.sock)

    def _may_wait(self, events: int) -> bool:
        """Whether nothing is going on but that the caller may have something to say."""
        return not (self.is_over or self.down.waiting or events & SEVERED) and self.relay.rests()
