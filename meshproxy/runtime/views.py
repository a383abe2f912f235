"""What the admin server shows: plain functions of what the sidecar holds, called when somebody asks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy import __version__
from meshproxy.admin.answers import Inquiry, Page, View, negotiated
from meshproxy.admin.status import (
    CertificateStatus,
    DenialStatus,
    IdentityStatus,
    ListenerStatus,
    ObjectionStatus,
    Status,
)
from meshproxy.identity.usable import NotReady
from meshproxy.runtime import pages
from meshproxy.telemetry.access import timestamp
from meshproxy.telemetry.exposition import form_for
from meshproxy.telemetry.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from meshproxy.admin.roster import ConnectionRow
    from meshproxy.inbound.visit import Services
    from meshproxy.runtime.auditing import Auditing
    from meshproxy.runtime.lifeline import Lifeline
    from meshproxy.runtime.pressure import Pressure
    from meshproxy.runtime.reload import ReloadState
    from meshproxy.runtime.stations import Station, Stations
    from meshproxy.settings.load import Configuration
    from meshproxy.telemetry.writer import LogWriter

_OBJECTIONS_SHOWN = 100


class InForce(Protocol):
    """Which settings and allow-lists are in force."""

    @property
    def configuration(self) -> Configuration:
        """They themselves."""

    @property
    def state(self) -> ReloadState:
        """Since when, and what became of the last attempt to change them."""


@dataclass(slots=True)
class Phase:
    """Where the process is in its life."""

    started_at: datetime
    draining: bool = False


class Views:
    """The pages of one sidecar."""

    def __init__(
        self,
        file: str,
        stations: Stations,
        services: Services,
        in_force: InForce,
        writer: LogWriter,
        *,
        pressure: Pressure,
        lifeline: Lifeline | None = None,
        auditing: Auditing | None = None,
        sandbox: str = "",
    ) -> None:
        self._file = file
        self._stations = stations
        self._services = services
        self._in_force = in_force
        self._writer = writer
        self._pressure = pressure
        self._lifeline = lifeline
        self._auditing = auditing
        self._sandbox = sandbox
        self._wall = services.relay.wall
        self.phase = Phase(self._wall())
        services.recorder.metrics.before_scrape(self._refresh_gauges)

    def __repr__(self) -> str:
        return f"<Views of {self._file}>"

    def public(self) -> Mapping[str, View | Inquiry]:
        """Return the harmless pages: no names, no reasons."""
        return {"/live": self.live, "/ready": self.ready, "/metrics": negotiated(self.metrics)}

    def all(self) -> Mapping[str, View | Inquiry]:
        """Return every page."""
        return {**self.public(), "/status": self.status_page}

    def live(self) -> Page:
        """Return 200 while the loop turns."""
        return pages.live_page()

    def ready(self) -> Page:
        """Return 200 while calls are served, else 503 with the state in one word."""
        return pages.ready_page(self._state())

    def metrics(self, accept: bytes = b"") -> Page:
        """Return the Prometheus exposition, in the form that is liked best."""
        form = form_for(accept)
        return Page(200, form.value, self._services.recorder.metrics.exposition(form))

    def status_page(self) -> Page:
        """Return `status` as JSON."""
        return pages.status_page(self.status())

    def status(self) -> Status:
        """Return how the sidecar is, in full."""
        return Status(
            version=__version__,
            pid=os.getpid(),
            started_at=timestamp(self.phase.started_at),
            state=self._state(),
            file=self._file,
            identity=self._identity(),
            configuration=pages.configuration_status(self._in_force.state),
            listeners=tuple(self._listener(station) for station in self._stations),
            denials=tuple(
                DenialStatus(d.ts, d.listener, d.caller, d.reason, d.nearest) for d in self._services.recorder.denials
            ),
            objections=(objections := self._objections()),
            objections_beyond=self._beyond(objections),
            log_lines_dropped=self._writer.dropped,
            audit=() if self._auditing is None else (self._auditing.status(),),
            sandbox=self._sandbox,
            load=self._pressure.status(),
        )

    @property
    def configuration(self) -> Configuration:
        """What is in force."""
        return self._in_force.configuration

    async def describe(self) -> Status:
        """Return `status`."""
        return self.status()

    async def roster(self, most: int) -> tuple[Sequence[ConnectionRow], int]:
        """Return `connections`."""
        return self.connections(most)

    async def granted(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each rule has granted, by listener; see `ListenerCounts.granted`."""
        counts = self._services.recorder.counts
        found = ((name, each.granted) for name, each in counts.items())
        return {name: granted for name, granted in found if granted is not None}

    def connections(self, most: int) -> tuple[tuple[ConnectionRow, ...], int]:
        """Return the newest `most` that are open, newest first, and how many are left out."""
        visits = [visit for station in self._stations.all for visit in station.acceptor.visits.values()]
        newest = nlargest(most, visits, key=lambda visit: visit.started)
        now = self._wall().timestamp()
        return tuple(visit.row(now) for visit in newest), len(visits) - len(newest)

    def facts(self) -> Facts:
        """Return what may explain a curve; asked each second."""
        store, state = self._services.identity, self._in_force.state
        reason = ""
        try:
            store.usable()
        except NotReady as not_ready:
            reason = str(not_ready)
        loaded, trusted = store.loaded, store.trusted
        return Facts(
            state=self._state(),
            reason=reason,
            id=str(loaded.leaf.id) if loaded else "",
            identity=store.generation,
            serial=f"{loaded.leaf.serial:x}" if loaded else "",
            expires=timestamp(loaded.leaf.not_after) if loaded else "",
            generation=state.generation,
            hash=state.hash,
            reload_error=state.last_error,
            deny_list=None if trusted.deny_list is None else trusted.deny_list.content.sequence,
            bundle=trusted.sequence,
            open_connections=sum(counts.open for counts in self._services.recorder.counts.values()),
        )

    def _objections(self) -> tuple[ObjectionStatus, ...]:
        most = nlargest(_OBJECTIONS_SHOWN, self._services.recorder.objections.items(), key=lambda item: item[1].count)
        return tuple(
            ObjectionStatus(o.listener, o.outcome, o.caller, o.asked, o.reason, t.count, t.last, t.nearest)
            for o, t in most
        )

    def _beyond(self, shown: tuple[ObjectionStatus, ...]) -> int:
        recorder = self._services.recorder
        raised = sum(tally.count for tally in recorder.objections.values()) + recorder.objections_beyond
        return raised - sum(each.count for each in shown)

    def _state(self) -> str:
        if self.phase.draining:
            return "draining"
        try:
            self._services.identity.usable()
        except NotReady:
            return "refusing"
        if self._refuses_for_want_of_a_record():
            return "refusing"
        return "overloaded" if self._pressure.is_overloaded else "serving"

    def _refuses_for_want_of_a_record(self) -> bool:
        if self._auditing is None:
            return False
        judges = (station.equipment.authorizer for station in self._stations.of("inbound"))
        return any(self._auditing.refuses_all(judge.witness) for judge in judges if judge is not None)

    def _identity(self) -> IdentityStatus:
        store, now = self._services.identity, self._wall()
        reason = remedy = ""
        try:
            store.usable()
        except NotReady as not_ready:
            reason, remedy = str(not_ready), not_ready.remedy
        loaded = store.loaded
        return IdentityStatus(
            id=str(loaded.leaf.id) if loaded else "",
            ready=not reason,
            reason=reason,
            remedy=remedy,
            directory=str(self._in_force.configuration.settings.identity.dir),
            generation=store.generation,
            loaded_at=timestamp(store.loaded_at) if store.loaded_at else "",
            last_error=store.last_error,
            serial=f"{loaded.leaf.serial:x}" if loaded else "",
            certificates=tuple(
                CertificateStatus(
                    term.role,
                    timestamp(term.not_after),
                    (term.not_after - now).total_seconds(),
                    term.subject,
                    term.serial,
                    timestamp(term.not_before),
                )
                for term in (loaded.material.terms if loaded else ())
            ),
            renewal=None if self._lifeline is None else self._lifeline.status(),
            trust=pages.trust_status(store, self._in_force.configuration.settings.identity, now),
        )

    def _listener(self, station: Station) -> ListenerStatus:
        settings, post = station.settings, station.acceptor.post
        policy = None if station.equipment.authorizer is None else station.equipment.authorizer.policy.value
        counts = self._services.recorder.listener(settings.name)
        return pages.listener_status(settings, post.address, policy, counts, self._wall(), usage=station.usage)

    @property
    def lag(self) -> float:
        """How far behind the loop is, in seconds."""
        return self._pressure.lag

    def _refresh_gauges(self) -> None:
        metrics, loaded, now = self._services.recorder.metrics, self._services.identity.loaded, self._wall()
        metrics.log_dropped.set(self._writer.dropped)
        self._pressure.measure()
        metrics.tasks.set(trio.lowlevel.current_statistics().tasks_living)
        metrics.grant_seconds.forget()  # of rules that are gone, too
        for station in self._stations.of("inbound"):
            self._measure_grants(station, now)
        if loaded is None:
            return
        shortest: dict[str, float] = {}
        for term in loaded.material.terms:
            left = (term.not_after - now).total_seconds()
            shortest[term.role] = min(left, shortest.get(term.role, left))
        for role, left in shortest.items():
            metrics.certificate_seconds.labels(role).set(left)

    def _measure_grants(self, station: Station, now: datetime) -> None:
        if station.equipment.authorizer is None:
            return
        seconds = self._services.recorder.metrics.grant_seconds
        for rule in station.equipment.authorizer.policy.value.rules:
            if rule.expires is not None:
                seconds.labels(station.settings.name, rule.name).set((rule.expires - now).total_seconds())
