"""What the log and the numbers say of what is trusted: of changes once, of a deny-list that gets old when it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.limits.rate import Rate
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from meshproxy.identity.peer import Objection
    from meshproxy.identity.sessions import Session
    from meshproxy.identity.trust import Trusted
    from meshproxy.settings.schema import IdentitySettings
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics

_STALE_REMEDY: Final = "see whether the CA can be reached, and its deny-list is published: meshproxy ca doctor"
_TOLD_AT_ONCE: Final = 20
_TOLD_PER_SECOND: Final = 2.0


class TrustTelling:
    """Tells of one sidecar's trust."""

    def __init__(self, settings: IdentitySettings, log: Logger, metrics: Metrics) -> None:
        self._settings = settings
        self._log = log
        self._metrics = metrics
        self._told_stale: timedelta | None = None  # how stale it was when that was told last
        self._told_faults: tuple[str, ...] = ()
        self._cuts = Rate(per_second=_TOLD_PER_SECOND, burst=_TOLD_AT_ONCE)

    def __repr__(self) -> str:
        return f"<TrustTelling told_stale={self._told_stale}>"

    def taken_up(self, before: Trusted, now_in_force: Trusted, faults: tuple[str, ...], *, ended: int) -> None:
        """Tell what came of one look at `trust.json`; `ended`: connections that were open."""
        changed = before != now_in_force
        if not changed and not faults and before.deny_list is None:
            return  # there is none, and never was
        result = "failed" if faults else "loaded" if changed else "unchanged"
        self._metrics.trust_loads.labels(result).inc()
        if faults and faults != self._told_faults:
            self._log.error(
                "trust_load_failed",
                file=str(self._settings.dir / "trust.json"),
                error="; ".join(faults),
                effect="the rest of it is in force, and of what is faulty the last that was good",
                remedy="see what the CA publishes (meshproxy ca doctor), and who writes that file",
            )
        self._told_faults = faults
        if not changed:
            return
        deny_list = now_in_force.deny_list
        self._log.info(
            "trust_loaded",
            deny_list=None if deny_list is None else deny_list.content.sequence,
            entries=0 if deny_list is None else len(deny_list.content.entries),
            retired=0 if deny_list is None else len(deny_list.content.retired),
            bundle=now_in_force.sequence,
            federated=sorted(map(str, now_in_force.federation.roots)),
            connections_ended=ended,
        )

    def ended(self, session: Session, objection: Objection, monotonic: float) -> None:
        """Tell of one open connection that was ended."""
        self._metrics.revoked_connections.labels(session.listener).inc()
        untold = self._cuts.take(monotonic)
        if untold is not None:
            self._log.warning(
                "revoked_connection_ended",
                listener=session.listener,
                id=session.connection,
                peer_id=str(session.peer.leaf.id),
                serial=session.peer.marks.serial,
                reason=objection.fault,
                detail=objection.detail,
                untold=untold,
            )

    def age(self, trusted: Trusted, now: datetime) -> None:
        """Warn when the deny-list gets stale, and again each time it is twice as late; tell when it is good again."""
        late = trusted.stale_for(now)
        if late is None:
            if self._told_stale is not None and trusted.deny_list is not None:
                self._log.info("deny_list_good_again", deny_list=trusted.deny_list.content.sequence)
            self._told_stale = None
            return
        if trusted.deny_list is None or (self._told_stale is not None and late < 2 * self._told_stale):
            return
        self._told_stale = late
        said = trusted.deny_list.content
        self._log.warning(
            "deny_list_stale",
            deny_list=said.sequence,
            issued=said.issued.isoformat(),
            late=format_duration(late.total_seconds()),
            policy=self._settings.stale_deny_list,
            remedy=_STALE_REMEDY,
        )

    def measure(self, trusted: Trusted, now: datetime) -> None:
        """Set the gauges; called before somebody looks at them."""
        metrics, deny_list = self._metrics, trusted.deny_list
        metrics.bundle_sequence.set(trusted.sequence or 0)
        metrics.federated_domains.set(len(trusted.federation.roots))
        metrics.deny_list_stale.set(trusted.stale_for(now) is not None)
        if deny_list is not None:
            metrics.deny_list_sequence.set(deny_list.content.sequence)
            metrics.deny_list_entries.set(len(deny_list.content.entries))
            metrics.deny_list_age.set((now - deny_list.content.issued).total_seconds())
