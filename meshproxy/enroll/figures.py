"""What a CA that serves counts and measures, for /metrics. Labels are words of our own, never a peer's."""

from __future__ import annotations

from meshproxy.telemetry.families import FINER, Registry


class Figures(Registry):
    """All families of one CA, in a registry of their own; for the trio thread only."""

    def __init__(self) -> None:
        super().__init__()
        self.grants = self.counter(
            "meshproxy_ca_grants_total", "Certificates given; again: one that was given before.", "kind", "again"
        )
        self.refusals = self.counter("meshproxy_ca_refusals_total", "Requests refused, by reason.", "kind", "why")
        self.alerts = self.counter("meshproxy_ca_alerts_total", "Refusals that a person should look at.", "kind", "why")
        self.rate_limited = self.counter(
            "meshproxy_ca_rate_limited_total", "Requests told to come back later, by whose limit it was.", "kind", "by"
        )
        self.answers = self.counter("meshproxy_ca_answers_total", "Requests answered, by status.", "status")
        self.handshake_failures = self.counter(
            "meshproxy_ca_handshake_failures_total", "Connections without a finished handshake, by reason.", "reason"
        )
        self.refused = self.counter(
            "meshproxy_ca_connections_refused_total", "Connections closed before their handshake, by reason.", "reason"
        )
        self.open = self.only("meshproxy_ca_connections_open", "Connections held now.")
        self.ledger_seconds = self.histogram(
            "meshproxy_ca_ledger_seconds", "What a turn at the ledger took.", bounds=FINER
        )
        self.ledger_failures = self.counter(
            "meshproxy_ca_ledger_failures_total", "Requests the ledger could not serve, by why.", "why"
        )
        self.expiry = self.gauge(
            "meshproxy_certificate_expiry_seconds",
            "Seconds until the CA's own leaf, its intermediate or its root expires; negative after.",
            "certificate",
        )
        self.bundle_sequence = self.only("meshproxy_ca_bundle_sequence", "The number of the bundle that is given out.")
        self.deny_list_sequence = self.only("meshproxy_ca_deny_list_sequence", "The number of the deny-list given out.")
        self.deny_list_age = self.only("meshproxy_ca_deny_list_age_seconds", "Seconds since the deny-list was signed.")
        self.federated_age = self.gauge(
            "meshproxy_ca_federated_bundle_age_seconds",
            "Seconds since the bundle of another trust domain was fetched or set.",
            "trust_domain",
        )
        self.ready = self.only("meshproxy_ca_ready", "1 while certificates can be given.")
        self.failing = self.gauge("meshproxy_ca_failing", "1 while this part of the CA's own work fails.", "what")
        self.reloads = self.counter(
            "meshproxy_ca_reloads_total", "Attempts to read ca.toml again, by result.", "result"
        )
        self.log_dropped = self.only("meshproxy_log_lines_dropped", "Log lines lost to a slow reader since start.")
