"""What is shown of a sidecar with several workers: asked of each when somebody asks, and told as one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from meshproxy import __version__
from meshproxy.admin.answers import Page, negotiated
from meshproxy.admin.merge import merged, worst
from meshproxy.admin.status import IdentityStatus, ListenerStatus, Status, WorkerStatus
from meshproxy.runtime import pages
from meshproxy.runtime.chronicle import next_second
from meshproxy.runtime.doors import key_of
from meshproxy.runtime.member import State
from meshproxy.runtime.samples import granted_by_rule
from meshproxy.runtime.scrape import exposition_of, samples_of
from meshproxy.runtime.telling import wall_clock
from meshproxy.settings.schema import Inbound
from meshproxy.telemetry.access import timestamp
from meshproxy.telemetry.exposition import form_for
from meshproxy.telemetry.facts import Facts, together
from meshproxy.telemetry.record import ListenerCounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshproxy.admin.answers import Inquiry, View
    from meshproxy.admin.roster import ConnectionRow
    from meshproxy.runtime.chronicle import Chronicle
    from meshproxy.runtime.crew import Crew
    from meshproxy.runtime.doorkeeper import Doorkeeper
    from meshproxy.runtime.lifeline import Lifeline
    from meshproxy.runtime.member import Member
    from meshproxy.runtime.reload import Reloader
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Outbound
    from meshproxy.telemetry.flows import Edge, Point


class Overview:
    """The pages of the supervisor."""

    def __init__(
        self,
        file: str,
        crew: Crew,
        doors: Doorkeeper,
        reloader: Reloader,
        telling: Telling,
        *,
        lifeline: Lifeline | None = None,
        sandbox: str = "",
    ) -> None:
        self._file = file
        self._crew = crew
        self._doors = doors
        self._reloader = reloader
        self._telling = telling
        self._lifeline = lifeline
        self._sandbox = sandbox
        self._started_at = timestamp(wall_clock())
        self.draining = False
        telling.metrics.before_scrape(lambda: telling.metrics.log_dropped.set(telling.writer.dropped))

    def __repr__(self) -> str:
        return f"<Overview of {self._file}>"

    def public(self) -> Mapping[str, View | Inquiry]:
        """Return the harmless pages: no names, no reasons."""
        return {"/live": pages.live_page, "/ready": self.ready, "/metrics": negotiated(self.metrics)}

    def all(self) -> Mapping[str, View | Inquiry]:
        """Return every page."""
        return {**self.public(), "/status": self.status_page}

    async def ready(self) -> Page:
        """Return 200 while calls are served, else 503 with the state in one word."""
        return pages.ready_page(await self.state())

    async def state(self) -> str:
        """Return the state in one word."""
        return self._state(await self._states())

    async def metrics(self, accept: bytes = b"") -> Page:
        """Return the Prometheus exposition of all together, in the form that is liked best."""
        await self._crew.census.reports()
        form, samples = form_for(accept), self._crew.census.samples(samples_of(self._telling.metrics))
        return Page(200, form.value, exposition_of(samples, self._telling.metrics, form))

    async def status_page(self) -> Page:
        """Return `status` as JSON."""
        return pages.status_page(await self.status())

    async def status(self) -> Status:
        """Return how the sidecar is, in full."""
        states = await self._states()
        told = [each.status for each in self._crew.census.last]
        return merged(self._base(states), told, self._crew.census.gone)

    @property
    def configuration(self) -> Configuration:
        """What is in force."""
        return self._reloader.configuration

    async def describe(self) -> Status:
        """Return `status`."""
        return await self.status()

    async def roster(self, most: int) -> tuple[Sequence[ConnectionRow], int]:
        """Return who is connected to any worker."""
        return await self._crew.census.roster(most)

    async def granted(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each rule has granted in all workers, also in those that have ended, by listener."""
        await self._crew.census.reports()
        return granted_by_rule(self._crew.census.samples())

    async def look_back(self, chronicle: Chronicle) -> None:
        """Take from the workers what happens, each second, until cancelled."""
        while True:
            now = await next_second(wall_clock)
            lag = 0.0
            happened: list[tuple[Edge, Point]] = []
            for account in await self._crew.census.accounts():
                chronicle.refuse(account.refused, account.refused_beyond)
                happened += account.happened
                lag = max(lag, account.loop_lag)
            await chronicle.second(now, happened, self.facts(), lag)

    def facts(self) -> Facts:
        """Return what may explain a curve, as the workers told it last."""
        members = self._crew.members
        told = {
            each.number: each.life.facts for each in members if each.life is not None and each.life.facts is not None
        }
        state = self._reloader.state
        own = Facts(
            state=self._state({number: facts.state for number, facts in told.items()}),
            generation=state.generation,
            hash=state.hash,
            reload_error=state.last_error,
            restarts=sum(each.restarts for each in members),
        )
        return together(own, list(told.values()))

    async def _states(self) -> dict[int, str]:
        """Ask who serves how he is; by number."""
        return {member.number: report.status.state for member, report in await self._crew.census.reports()}

    def _state(self, states: Mapping[int, str]) -> str:
        if self.draining:
            return "draining"
        return worst(set(states.values()), of_none="refusing" if self._crew.has_served else "starting")

    def _base(self, states: Mapping[int, str]) -> Status:
        settings = self._reloader.configuration.settings
        nobody = IdentityStatus(
            "",
            False,
            "no worker serves",
            "see worker_exited in the log",
            str(settings.identity.dir),
            0,
            "",
            "",
            renewal=None if self._lifeline is None else self._lifeline.status(),
        )
        return Status(
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            state=self._state(states),
            file=self._file,
            identity=nobody,
            configuration=pages.configuration_status(self._reloader.state),
            listeners=tuple(self._listener(each) for each in settings.listeners),
            denials=(),
            objections=(),
            objections_beyond=0,
            log_lines_dropped=self._telling.writer.dropped,
            sandbox=self._sandbox,
            workers=tuple(_worker(member, states.get(member.number, "")) for member in self._crew.members),
        )

    def _listener(self, settings: Inbound | Outbound) -> ListenerStatus:
        policy = self._reloader.configuration.policies[settings.name] if isinstance(settings, Inbound) else None
        address = self._doors.addresses.get(key_of(settings), settings.listen)  # in the middle of a change: not there
        counts = ListenerCounts(settings.name, self._telling.metrics)
        return pages.listener_status(settings, address, policy, counts, wall_clock())


def _worker(member: Member, state: str) -> WorkerStatus:
    """Return what is shown of one worker; `state` is what it says itself, empty when it says nothing."""
    serves = member.state in {State.SERVING, State.DRAINING}
    status = None if member.report is None else member.report.status
    return WorkerStatus(
        number=member.number + 1,
        pid=0 if member.life is None else member.life.pid,
        state=(state or "silent") if serves else member.state,
        open=0 if status is None else sum(each.open for each in status.listeners),
        restarts=member.restarts,
        generation=member.generation,
        identity_generation=0 if status is None else status.identity.generation,
    )
