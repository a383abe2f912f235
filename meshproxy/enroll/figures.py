"""What a CA that serves counts and measures, for /metrics. Labels are words of our own, never a peer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from meshproxy.telemetry.metrics import Family, Number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Histogram(Collector):
    """How long something took, in buckets."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {self._name} of {sum(self._counts)}>"

    def observe(self, seconds: float) -> None:
        """Add one."""
        self._counts[sum(bound < seconds for bound in _BOUNDS)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield it as the exposition wants it."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric([], buckets, self._sum)
        yield family


class Figures:
    """All families of one CA, in a registry of their own; for the trio thread only."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._before: list[Callable[[], None]] = []

        def counter(name: str, text: str, *labels: str) -> Family:
            return self._added(Family(CounterMetricFamily, name, text, *labels))

        def gauge(name: str, text: str, *labels: str) -> Family:
            return self._added(Family(GaugeMetricFamily, name, text, *labels))

        def only(name: str, text: str) -> Number:
            return gauge(name, text).labels()

        self.grants = counter(
            "meshproxy_ca_grants_total", "Certificates given; again: one that was given before.", "kind", "again"
        )
        self.refusals = counter("meshproxy_ca_refusals_total", "Requests refused, by reason.", "kind", "why")
        self.alerts = counter("meshproxy_ca_alerts_total", "Refusals that a person should look at.", "kind", "why")
        self.rate_limited = counter(
            "meshproxy_ca_rate_limited_total", "Requests told to come back later, by whose limit it was.", "kind", "by"
        )
        self.answers = counter("meshproxy_ca_answers_total", "Requests answered, by status.", "status")
        self.handshake_failures = counter(
            "meshproxy_ca_handshake_failures_total", "Connections without a finished handshake, by reason.", "reason"
        )
        self.refused = counter(
            "meshproxy_ca_connections_refused_total", "Connections closed before their handshake, by reason.", "reason"
        )
        self.open = only("meshproxy_ca_connections_open", "Connections held now.")
        self.ledger_seconds = Histogram("meshproxy_ca_ledger_seconds", "What a turn at the ledger took.")
        self._registry.register(self.ledger_seconds)
        self.ledger_failures = counter(
            "meshproxy_ca_ledger_failures_total", "Requests the ledger could not serve, by why.", "why"
        )
        self.expiry = gauge(
            "meshproxy_certificate_expiry_seconds",
            "Seconds until the CA's own leaf, its intermediate or its root expires; negative after.",
            "certificate",
        )
        self.bundle_sequence = only("meshproxy_ca_bundle_sequence", "The number of the bundle that is given out.")
        self.deny_list_sequence = only("meshproxy_ca_deny_list_sequence", "The number of the deny-list given out.")
        self.deny_list_age = only("meshproxy_ca_deny_list_age_seconds", "Seconds since the deny-list was signed.")
        self.federated_age = gauge(
            "meshproxy_ca_federated_bundle_age_seconds",
            "Seconds since the bundle of another trust domain was fetched or set.",
            "trust_domain",
        )
        self.ready = only("meshproxy_ca_ready", "1 while certificates can be given.")
        self.failing = gauge("meshproxy_ca_failing", "1 while this part of the CA's own work fails.", "what")
        self.reloads = counter("meshproxy_ca_reloads_total", "Attempts to read ca.toml again, by result.", "result")
        self.log_dropped = only("meshproxy_log_lines_dropped", "Log lines lost to a slow reader since start.")

    def __repr__(self) -> str:
        return f"<Figures {self._registry!r}>"

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each look at the numbers, for gauges that are functions of the clock."""
        self._before.append(refresh)

    def exposition(self) -> bytes:
        """Return the text format a Prometheus server scrapes."""
        for refresh in self._before:
            refresh()
        return generate_latest(self._registry)

    def _added(self, family: Family) -> Family:
        self._registry.register(family)
        return family
