"""What the admin server shows: plain functions of what the sidecar holds, called when somebody asks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy import __version__
from meshproxy.admin.server import Page, View
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
from meshproxy.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from meshproxy.inbound.accept import Services
    from meshproxy.runtime.auditing import Auditing
    from meshproxy.runtime.lifeline import Lifeline
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
        lifeline: Lifeline | None = None,
        auditing: Auditing | None = None,
        sandbox: str = "",
    ) -> None:
        self._file = file
        self._stations = stations
        self._services = services
        self._in_force = in_force
        self._writer = writer
        self._lifeline = lifeline
        self._auditing = auditing
        self._sandbox = sandbox
        self._wall = services.relay.wall
        self.phase = Phase(self._wall())
        services.recorder.metrics.before_scrape(self._refresh_gauges)

    def __repr__(self) -> str:
        return f"<Views of {self._file}>"

    def public(self) -> Mapping[str, View]:
        """Return the harmless pages: no names, no reasons."""
        return {"/live": self.live, "/ready": self.ready, "/metrics": self.metrics}

    def all(self) -> Mapping[str, View]:
        """Return every page."""
        return {**self.public(), "/status": self.status_page}

    def live(self) -> Page:
        """Return 200 while the loop turns."""
        return pages.live_page()

    def ready(self) -> Page:
        """Return 200 while calls are served, else 503 with the state in one word."""
        return pages.ready_page(self._state())

    def metrics(self) -> Page:
        """Return the Prometheus exposition."""
        return Page(200, CONTENT_TYPE, self._services.recorder.metrics.exposition())

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
        return "serving"

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
                CertificateStatus(term.role, timestamp(term.not_after), (term.not_after - now).total_seconds())
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

    def _refresh_gauges(self) -> None:
        metrics, loaded, now = self._services.recorder.metrics, self._services.identity.loaded, self._wall()
        metrics.log_dropped.set(self._writer.dropped)
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
