"""What a sidecar counts and measures, for /metrics.

Labels come from configuration and fixed lists of words, never from a peer.
"""

from __future__ import annotations

from meshproxy.telemetry.families import FINER, Registry


class Metrics(Registry):
    """All families of one sidecar, in a registry of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.authz_decisions = self.counter(
            "meshproxy_authz_decisions_total",
            "Authorization decisions; rule is empty on deny.",
            *("listener", "decision", "rule", "mode", "reason"),
        )
        self.handshake_failures = self.counter(
            "meshproxy_handshake_failures_total",
            "Connections that never authenticated, by reason.",
            "listener",
            "reason",
        )
        self.connections = self.counter("meshproxy_connections_total", "Connections ended, by how.", "listener", "end")
        self.connections_open = self.gauge("meshproxy_connections_open", "Connections held now.", "listener")
        self.connections_refused = self.counter(
            "meshproxy_connections_refused_total",
            "Connections closed before any judgement, by reason.",
            "listener",
            "reason",
        )
        self.bytes = self.counter(
            "meshproxy_bytes_total", "Application bytes relayed; in is towards the upstream.", "listener", "direction"
        )
        self.bare_fins = self.counter(
            "meshproxy_bare_fins_total",
            "TLS peers that ended without close_notify; truncation, or an end on a lenient listener.",
            "listener",
        )
        self.requests = self.counter(
            "meshproxy_requests_total",
            "HTTP requests ended, by class of status (none: no answer) and failure.",
            *("listener", "status", "failure"),
        )
        self.request_seconds = self.histogram(
            "meshproxy_request_duration_seconds",
            "From the first byte of an HTTP request to the end of its answer, by class of status.",
            "listener",
            "status",
        )
        self.response_flags = self.counter(
            "meshproxy_response_flags_total",
            "HTTP requests that the sidecar answered or cut itself, by Envoy's flag for why.",
            "listener",
            "flag",
        )
        self._describe_waits()
        self.upstream_failures = self.counter(
            "meshproxy_upstream_failures_total", "Attempts at an upstream that failed, by phase.", "listener", "phase"
        )
        self.certificate_seconds = self.gauge(
            "meshproxy_certificate_expiry_seconds",
            "Seconds until our own leaf, intermediate or root expires; negative after.",
            "certificate",
        )
        self.identity_ready = self.only("meshproxy_identity_ready", "1 while our own certificate can be used.")
        self.identity_generation = self.only("meshproxy_identity_generation", "How often the identity was swapped.")
        self.identity_loads = self.counter("meshproxy_identity_loads_total", "Attempts to load the identity.", "result")
        self.trust_loads = self.counter(
            "meshproxy_trust_loads_total", "Looks at a changed trust.json, by result.", "result"
        )
        self.bundle_sequence = self.only(
            "meshproxy_bundle_sequence", "Number of the bundle in use, where the CA has said it; else 0."
        )
        self.deny_list_sequence = self.only(
            "meshproxy_deny_list_sequence", "Number of the deny-list in force; 0: none."
        )
        self.deny_list_entries = self.only("meshproxy_deny_list_entries", "Entries of the deny-list in force.")
        self.deny_list_age = self.only("meshproxy_deny_list_age_seconds", "Seconds since the deny-list was issued.")
        self.deny_list_stale = self.only("meshproxy_deny_list_stale", "1 while a newer deny-list should be here.")
        self.federated_domains = self.only(
            "meshproxy_federated_trust_domains", "Other trust domains that are believed."
        )
        self.revoked_connections = self.counter(
            "meshproxy_revoked_connections_total",
            "Open connections ended because their peer is on the deny-list, or federated with no more.",
            "listener",
        )
        # A keeper's: without one they have no numbers, and where there are several workers only the supervisor has one.
        self.renewals = self.counter("meshproxy_renewals_total", "Attempts to get a certificate from the CA.", "result")
        self.renewal_planned = self.gauge(
            "meshproxy_renewal_planned_seconds", "Seconds until the own certificate is to be renewed; negative after."
        )
        self.renewal_last_success = self.gauge(
            "meshproxy_renewal_last_success_timestamp_seconds", "When a certificate was last got from the CA."
        )
        self.bundle_known = self.gauge(
            "meshproxy_bundle_sequence_known", "Number of the bundle the CA told of last, in use or not yet."
        )
        self.trust_age = self.gauge("meshproxy_trust_age_seconds", "Seconds since the CA last said whom to believe.")
        self.authz_terminated = self.counter(
            "meshproxy_authz_terminated_total", "Streams cut because the allow-list no longer grants them.", "listener"
        )
        self.grant_seconds = self.gauge(
            "meshproxy_grant_expiry_seconds",
            "Seconds until a rule with an end grants no more; negative after.",
            "listener",
            "rule",
        )
        self.reloads = self.counter(
            "meshproxy_reloads_total", "Attempts to reload settings and allow-lists, by result.", "result"
        )
        self.reload_failing = self.only("meshproxy_reload_failing", "1 while the last good configuration is kept.")
        self.configuration_generation = self.only(
            "meshproxy_configuration_generation", "How often settings and allow-lists were swapped, from 1."
        )
        # Without [audit] these have no numbers.
        self.audit_records = self.counter(
            "meshproxy_audit_records_total", "Decisions that are in the audit log, durable."
        )
        self.audit_refused = self.counter(
            "meshproxy_audit_refused_total", "Decisions the audit log had no room for: what they allowed was refused."
        )
        self.audit_failures = self.counter("meshproxy_audit_write_failures_total", "Attempts to write that failed.")
        self.audit_depth = self.gauge("meshproxy_audit_queue_depth", "Decisions that wait to be durable.")
        self.audit_failing = self.gauge("meshproxy_audit_failing", "1 while the audit log cannot be written.")
        self.audit_checkpoint_age = self.gauge(
            "meshproxy_audit_checkpoint_age_seconds", "Seconds since the last signed checkpoint, or the start."
        )
        self.worker_restarts = self.counter(
            "meshproxy_worker_restarts_total", "Times a worker that had ended was started again."
        ).labels()
        self._describe_load()
        # Without [tracing] these have no numbers.
        self.spans = self.counter(
            "meshproxy_trace_spans_total", "Spans of sampled requests, by what became of them.", "result"
        )
        self.spans_waiting = self.gauge("meshproxy_trace_spans_waiting", "Spans that wait to be sent to the collector.")
        self.trace_exports = self.counter(
            "meshproxy_trace_exports_total", "Attempts to send spans to the collector, by result.", "result"
        )
        self.loop_lag = self.histogram(
            "meshproxy_event_loop_lag_seconds",
            "How long what had come lay unread, looked at twenty times a second.",
            bounds=FINER,
        )
        self.tasks = self.only("meshproxy_tasks", "Tasks of the event loop that are alive now.")
        self.log_dropped = self.only("meshproxy_log_lines_dropped", "Log lines lost to a slow reader since start.")

    def _describe_load(self) -> None:
        self.accept_pauses = self.counter(
            "meshproxy_accept_pauses_total", "Times accepting paused for want of descriptors or memory.", "listener"
        )
        self.limit_hits = self.counter(
            "meshproxy_limit_hits_total", "Times a limit of the settings was reached, by its key.", "listener", "limit"
        )
        self.unread_lag = self.gauge(
            "meshproxy_loop_lag_seconds", "The longest of meshproxy_event_loop_lag_seconds in the last second."
        ).labels()
        self.in_flight = self.gauge(
            "meshproxy_requests_in_flight", "HTTP requests that have an upstream connection."
        ).labels()
        self.most_in_flight = self.gauge(
            "meshproxy_requests_in_flight_limit",
            "How many of them are let in now; more than can be when not overloaded.",
        ).labels()
        self.overloaded = self.gauge(
            "meshproxy_overloaded", "1 while new connections are turned away for want of time."
        ).labels()

    def _describe_waits(self) -> None:
        self.upstream_wait = self.histogram(
            "meshproxy_upstream_wait_seconds",
            "What an HTTP request waited for an upstream connection when none was at rest.",
            *("listener",),
            bounds=FINER,
        )
        self.handshake_seconds = self.histogram(
            "meshproxy_handshake_seconds", "What a TLS handshake with a caller took.", "listener", bounds=FINER
        )
        self.handshake_wait = self.histogram(
            "meshproxy_handshake_wait_seconds",
            "What of it a caller waited for his turn, as many came at once.",
            *("listener",),
            bounds=FINER,
        )
