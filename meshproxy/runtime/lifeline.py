"""What connects a sidecar with its CA, where its file says where that is: the keeper, wired; and how it is shown."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from meshproxy.admin.status import RenewalStatus
from meshproxy.enroll.approach import Approach
from meshproxy.enroll.client import CaClient
from meshproxy.enroll.errand import Errands
from meshproxy.enroll.holding import Holding
from meshproxy.enroll.keeper import Keeper
from meshproxy.enroll.keeping import Orders
from meshproxy.enroll.plan import Left
from meshproxy.runtime.telling import wall_clock
from meshproxy.telemetry.access import timestamp
from meshproxy.wire.dial import Resolver
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from meshproxy.enroll.faults import EnrolmentError
    from meshproxy.enroll.holding import Held
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.schema import IdentitySettings


class Lifeline:
    """One per sidecar: in its only process, or in the supervisor. `look_now` is called when it wrote something new."""

    def __init__(
        self, settings: IdentitySettings, telling: Telling, look_now: Callable[[], None], left: Left | None = None
    ) -> None:
        self._settings = settings
        self._log = telling.log
        self._sweeper = Sweeper()
        client = CaClient(Approach(Resolver(), self._sweeper, wall_clock), self._one_failed)
        holding = Holding(settings.dir, settings.passphrase_file)

        async def taken(_held: Held) -> None:
            look_now()

        self._keeper = Keeper(
            Errands(holding, client, wall_clock),
            Orders(settings.ca, settings.token_file, left or Left()),
            wall=wall_clock,
            log=telling.log,
            metrics=telling.metrics,
            dice=random.SystemRandom(),
            on_new=taken,
        )

    def __repr__(self) -> str:
        return f"<Lifeline {self._keeper!r}>"

    async def run(self) -> None:
        """Keep the identity alive until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._sweeper.run)
            nursery.start_soon(self._keeper.run)

    def status(self) -> RenewalStatus:
        """How it goes."""
        state = self._keeper.state
        return RenewalStatus(
            ca=tuple(map(str, self._settings.ca)),
            renewed_at=_told(state.renewed_at),
            next_renewal=_told(state.next_renewal),
            last_error=state.last_error,
            remedy=state.remedy,
            failing_since=_told(state.failing_since),
            next_try=_told(state.next_try),
            trust_at=_told(state.trust_at),
            trust_error=state.trust_error,
            bundle_loaded=state.sequence_loaded,
            bundle_known=state.sequence_known,
        )

    def _one_failed(self, fault: EnrolmentError) -> None:
        """With several addresses the next one may help: then this is all that is told of it."""
        if len(self._settings.ca) > 1:
            self._log.warning("ca_address_failed", error=str(fault))


def _told(moment: datetime | None) -> str:
    return "" if moment is None else timestamp(moment)
