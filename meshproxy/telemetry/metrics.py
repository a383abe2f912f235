"""Counters and gauges for /metrics. Labels come from configuration and fixed word lists, never from a peer.

`prometheus_client` writes the exposition, and that is all: its own counters take 2.3 us for each `labels(...).inc()`,
a tenth of what a request may cost. Ours are numbers in a dict, turned into its families when somebody scrapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Different label sets of one family. Names of rules and listeners change with the files, over months perhaps without
# end; what comes beyond is counted as one.
_MOST_NUMBERS: Final = 16_384
_BEYOND: Final = "(other)"


class Number:
    """What is counted or measured under one set of labels; for the trio thread only, as everything here."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def __repr__(self) -> str:
        return f"<Number {self.value:g}>"

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        self.value += by

    def dec(self) -> None:
        """Take one off (a gauge)."""
        self.value -= 1.0

    def set(self, value: float) -> None:
        """Set it (a gauge)."""
        self.value = float(value)


class Family(Collector):
    """One metric: its numbers by the values of its labels."""

    def __init__(self, kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, text: str, *labels: str) -> None:
        self._kind = kind
        self._name = name
        self._text = text
        self._labels = labels
        self._numbers: dict[tuple[str, ...], Number] = {}

    def __repr__(self) -> str:
        return f"<Family {self._name} of {len(self._numbers)} numbers>"

    def labels(self, *values: str) -> Number:
        """Return the number under these values, one for each label; it stays the same one, and may be kept."""
        number = self._numbers.get(values)
        return self._added(values) if number is None else number

    def numbers(self) -> Iterable[tuple[tuple[str, ...], Number]]:
        """Return all numbers with the values of their labels."""
        return self._numbers.items()

    def forget(self) -> None:
        """Have no numbers any more: for what is measured anew at each look; kept numbers count for nothing."""
        self._numbers.clear()

    @property
    def is_full(self) -> bool:
        """Whether something was counted as one with others for want of room."""
        return (_BEYOND,) * len(self._labels) in self._numbers

    def collect(self) -> Iterator[Metric]:
        """Yield the family as the exposition wants it."""
        family = self._kind(self._name, self._text, labels=self._labels)
        for values, number in self._numbers.items():
            family.add_metric(values, number.value)
        yield family

    def _added(self, values: tuple[str, ...]) -> Number:
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, not values for {values}")
        if len(self._numbers) >= _MOST_NUMBERS:
            values = (_BEYOND,) * len(values)
        return self._numbers.setdefault(values, Number())


class Metrics:
    """All families of one sidecar, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)

        def family(kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, text: str, *labels: str) -> Family:
            made = Family(kind, name, text, *labels)
            self.registry.register(made)
            return made

        def counter(name: str, text: str, *labels: str) -> Family:
            return family(CounterMetricFamily, name, text, *labels)

        def gauge(name: str, text: str, *labels: str) -> Family:
            return family(GaugeMetricFamily, name, text, *labels)

        def only(name: str, text: str) -> Number:
            """A gauge without labels: there from the start."""
            return gauge(name, text).labels()

        self.authz_decisions = counter(
            "meshproxy_authz_decisions_total",
            "Authorization decisions; rule is empty on deny.",
            *("listener", "decision", "rule", "mode", "reason"),
        )
        self.handshake_failures = counter(
            "meshproxy_handshake_failures_total",
            "Connections that never authenticated, by reason.",
            "listener",
            "reason",
        )
        self.connections = counter("meshproxy_connections_total", "Connections ended, by how.", "listener", "end")
        self.connections_open = gauge("meshproxy_connections_open", "Connections held now.", "listener")
        self.connections_refused = counter(
            "meshproxy_connections_refused_total",
            "Connections closed before any judgement, by reason.",
            "listener",
            "reason",
        )
        self.bytes = counter(
            "meshproxy_bytes_total", "Application bytes relayed; in is towards the upstream.", "listener", "direction"
        )
        self.bare_fins = counter(
            "meshproxy_bare_fins_total",
            "TLS peers that ended without close_notify; truncation, or an end on a lenient listener.",
            "listener",
        )
        self.requests = counter(
            "meshproxy_requests_total",
            "HTTP requests ended, by class of status (none: no answer) and failure.",
            *("listener", "status", "failure"),
        )
        self.upstream_failures = counter(
            "meshproxy_upstream_failures_total", "Attempts at an upstream that failed, by phase.", "listener", "phase"
        )
        self.certificate_seconds = gauge(
            "meshproxy_certificate_expiry_seconds",
            "Seconds until our own leaf, intermediate or root expires; negative after.",
            "certificate",
        )
        self.identity_ready = only("meshproxy_identity_ready", "1 while our own certificate can be used.")
        self.identity_generation = only("meshproxy_identity_generation", "How often the identity was swapped.")
        self.identity_loads = counter("meshproxy_identity_loads_total", "Attempts to load the identity.", "result")
        self.trust_loads = counter("meshproxy_trust_loads_total", "Looks at a changed trust.json, by result.", "result")
        self.bundle_sequence = only(
            "meshproxy_bundle_sequence", "Number of the bundle in use, where the CA has said it; else 0."
        )
        self.deny_list_sequence = only("meshproxy_deny_list_sequence", "Number of the deny-list in force; 0: none.")
        self.deny_list_entries = only("meshproxy_deny_list_entries", "Entries of the deny-list in force.")
        self.deny_list_age = only("meshproxy_deny_list_age_seconds", "Seconds since the deny-list was issued.")
        self.deny_list_stale = only("meshproxy_deny_list_stale", "1 while a newer deny-list should be here.")
        self.federated_domains = only("meshproxy_federated_trust_domains", "Other trust domains that are believed.")
        self.revoked_connections = counter(
            "meshproxy_revoked_connections_total",
            "Open connections ended because their peer is on the deny-list, or federated with no more.",
            "listener",
        )
        # A keeper's: without one they have no numbers, and where there are several workers only the supervisor has one.
        self.renewals = counter("meshproxy_renewals_total", "Attempts to get a certificate from the CA.", "result")
        self.renewal_planned = gauge(
            "meshproxy_renewal_planned_seconds", "Seconds until the own certificate is to be renewed; negative after."
        )
        self.renewal_last_success = gauge(
            "meshproxy_renewal_last_success_timestamp_seconds", "When a certificate was last got from the CA."
        )
        self.bundle_known = gauge(
            "meshproxy_bundle_sequence_known", "Number of the bundle the CA told of last, in use or not yet."
        )
        self.trust_age = gauge("meshproxy_trust_age_seconds", "Seconds since the CA last said whom to believe.")
        self.authz_terminated = counter(
            "meshproxy_authz_terminated_total", "Streams cut because the allow-list no longer grants them.", "listener"
        )
        self.grant_seconds = gauge(
            "meshproxy_grant_expiry_seconds",
            "Seconds until a rule with an end grants no more; negative after.",
            "listener",
            "rule",
        )
        self.reloads = counter(
            "meshproxy_reloads_total", "Attempts to reload settings and allow-lists, by result.", "result"
        )
        self.reload_failing = only("meshproxy_reload_failing", "1 while the last good configuration is kept.")
        self.configuration_generation = only(
            "meshproxy_configuration_generation", "How often settings and allow-lists were swapped, from 1."
        )
        # Without [audit] these have no numbers.
        self.audit_records = counter("meshproxy_audit_records_total", "Decisions that are in the audit log, durable.")
        self.audit_refused = counter(
            "meshproxy_audit_refused_total", "Decisions the audit log had no room for: what they allowed was refused."
        )
        self.audit_failures = counter("meshproxy_audit_write_failures_total", "Attempts to write that failed.")
        self.audit_depth = gauge("meshproxy_audit_queue_depth", "Decisions that wait to be durable.")
        self.audit_failing = gauge("meshproxy_audit_failing", "1 while the audit log cannot be written.")
        self.audit_checkpoint_age = gauge(
            "meshproxy_audit_checkpoint_age_seconds", "Seconds since the last signed checkpoint, or the start."
        )
        self._describe_load(counter, gauge)
        self.worker_restarts = counter(
            "meshproxy_worker_restarts_total", "Times a worker that had ended was started again."
        ).labels()
        self.tasks = only("meshproxy_tasks", "Tasks of the event loop that are alive now.")
        self.log_dropped = only("meshproxy_log_lines_dropped", "Log lines lost to a slow reader since start.")
        self._before_scrape: list[Callable[[], None]] = []

    def _describe_load(self, counter: Callable[..., Family], gauge: Callable[..., Family]) -> None:
        self.accept_pauses = counter(
            "meshproxy_accept_pauses_total", "Times accepting paused for want of descriptors or memory.", "listener"
        )
        self.limit_hits = counter(
            "meshproxy_limit_hits_total", "Times a limit of the settings was reached, by its key.", "listener", "limit"
        )
        self.loop_lag = gauge(
            "meshproxy_loop_lag_seconds", "How long what has come lay unread, the longest of the last second."
        ).labels()
        self.in_flight = gauge(
            "meshproxy_requests_in_flight", "HTTP requests that have an upstream connection."
        ).labels()
        self.most_in_flight = gauge(
            "meshproxy_requests_in_flight_limit",
            "How many of them are let in now; more than can be when not overloaded.",
        ).labels()
        self.overloaded = gauge(
            "meshproxy_overloaded", "1 while new connections are turned away for want of time."
        ).labels()

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each look at the numbers, for gauges that are functions of the clock."""
        self._before_scrape.append(refresh)

    def refresh(self) -> None:
        """Bring up to date what is not counted as it happens."""
        for refresh in self._before_scrape:
            refresh()

    def exposition(self) -> bytes:
        """Return the text format a Prometheus server scrapes."""
        self.refresh()
        return generate_latest(self.registry)
