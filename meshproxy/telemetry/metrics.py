"""Counters and gauges for /metrics. Labels come from configuration and fixed word lists, never from a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All families of one sidecar, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

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
        self.accept_pauses = counter(
            "meshproxy_accept_pauses_total", "Times accepting paused for want of descriptors or memory.", "listener"
        )
        self.certificate_seconds = gauge(
            "meshproxy_certificate_expiry_seconds",
            "Seconds until our own leaf, intermediate or root expires; negative after.",
            "certificate",
        )
        self.identity_ready = gauge("meshproxy_identity_ready", "1 while our own certificate can be used.")
        self.identity_generation = gauge("meshproxy_identity_generation", "How often the identity was swapped.")
        self.identity_loads = counter("meshproxy_identity_loads_total", "Attempts to load the identity.", "result")
        self.authz_terminated = counter(
            "meshproxy_authz_terminated_total", "Streams cut because the allow-list no longer grants them.", "listener"
        )
        self.reloads = counter(
            "meshproxy_reloads_total", "Attempts to reload settings and allow-lists, by result.", "result"
        )
        self.reload_failing = gauge("meshproxy_reload_failing", "1 while the last good configuration is kept.")
        self.configuration_generation = gauge(
            "meshproxy_configuration_generation", "How often settings and allow-lists were swapped, from 1."
        )
        self.tasks = gauge("meshproxy_tasks", "Tasks of the event loop that are alive now.")
        self.log_dropped = gauge("meshproxy_log_lines_dropped", "Log lines lost to a slow reader since start.")
        self._before_scrape: list[Callable[[], None]] = []

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each exposition, for gauges that are functions of the clock."""
        self._before_scrape.append(refresh)

    def exposition(self) -> bytes:
        """Return the text format a Prometheus server scrapes."""
        for refresh in self._before_scrape:
            refresh()
        return generate_latest(self.registry)
