"""One place that is told what happens on listeners: it counts always, logs at a bounded rate, and remembers denials."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.limits.rate import Rate
from meshproxy.telemetry.denials import Fresh, Refused
from meshproxy.telemetry.flows import Flows
from meshproxy.telemetry.requests import Requests
from meshproxy.telemetry.text import printable
from meshproxy.telemetry.wanted import AccessLines, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.telemetry.access import AccessLog, ConnectionLine
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.families import Buckets, Family, Number
    from meshproxy.telemetry.flows import Flow
    from meshproxy.telemetry.metrics import Metrics

_DENIALS_KEPT = 50

# Different objections a sidecar remembers, in all and of one caller at one listener: who asks for endless paths is only
# counted beyond, and leaves room for what the others ask for.
_OBJECTIONS_KEPT = 512
_OBJECTIONS_PER_CALLER = 32

# What one listener may say about failures: enough to see what goes on, too little to fill a disk.
_TOLD_PER_SECOND = 2.0
_TOLD_AT_ONCE = 20

# Ends (`wire.ends.End`) after which something may be missing: in TCP mode, the errors of an edge.
_ERRORS = frozenset({"reset", "truncated", "corrupt", "refused", "failed"})


@dataclass(frozen=True, slots=True)
class Denial:
    """A refused caller, as `status` shows it. `caller` may be a stranger's claim; it is printable."""

    ts: str
    listener: str
    caller: str
    reason: str
    nearest: str


@dataclass(frozen=True, slots=True)
class Objection:
    """What the allow-list has against somebody: the same caller asking for the same thing is one objection."""

    listener: str
    outcome: str  # deny | would_deny
    caller: str
    asked: str  # "GET /path"; empty in TCP mode
    reason: str


@dataclass(slots=True)
class Tally:
    """How often an objection was raised; `nearest` is the last explanation given of it."""

    count: int = 0
    last: str = ""
    nearest: str = ""


class ListenerCounts:
    """What `status` tells about one listener; what /metrics counts by the same words is not counted twice."""

    __slots__ = (
        "_bytes",
        "_ends",
        "_metrics",
        "_name",
        "ended",
        "failed_upstream",
        "handshake_failures",
        "handshakes",
        "open",
        "open_now",
        "refused",
        "requests",
    )

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._metrics = metrics
        self.open = 0
        self.open_now = metrics.connections_open.labels(name)  # the same, for /metrics
        # Looked up once, for each connection adds to them.
        self._bytes: tuple[Number, Number] | None = None
        self._ends: dict[str, Number] = {}
        self.handshakes: tuple[Buckets, Buckets] | None = None  # how long they lasted, and waited
        self.handshake_failures = 0
        self.failed_upstream = 0
        self.requests: Requests | None = None
        self.refused: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<ListenerCounts {self._name} open={self.open} decided={self.decided} answered={self.answered}>"

    def take(self, line: ConnectionLine) -> None:
        """Count a connection that has ended as its line says."""
        end, name, metrics = line.end, self._name, self._metrics
        self.ended[end] = self.ended.get(end, 0) + 1
        number = self._ends.get(end)
        if number is None:
            number = self._ends[end] = metrics.connections.labels(name, end)
        number.value += 1.0
        if line.bytes_in or line.bytes_out:
            if self._bytes is None:
                self._bytes = metrics.bytes.labels(name, "in"), metrics.bytes.labels(name, "out")
            self._bytes[0].value += line.bytes_in
            self._bytes[1].value += line.bytes_out

    @property
    def decided(self) -> dict[str, int]:
        """Decisions by outcome."""
        return self._by_second_label(self._metrics.authz_decisions)

    @property
    def granted(self) -> dict[str, int] | None:
        """Decisions by the rule that granted; None when there were too many kinds to tell rules apart."""
        if self._metrics.authz_decisions.is_full:
            return None
        found: dict[str, int] = {}
        for (listener, _, rule, *_), number in self._metrics.authz_decisions.numbers():
            if listener == self._name and rule:
                found[rule] = found.get(rule, 0) + int(number.value)
        return found

    @property
    def answered(self) -> dict[str, int]:
        """Requests by class of status."""
        return self._by_second_label(self._metrics.requests)

    @property
    def limits_reached(self) -> dict[str, int]:
        """How often each limit was reached, by its key in the settings."""
        return self._by_second_label(self._metrics.limit_hits)

    def _by_second_label(self, family: Family) -> dict[str, int]:
        found: dict[str, int] = {}
        for (listener, word, *_), number in family.numbers():
            if listener == self._name:
                found[word] = found.get(word, 0) + int(number.value)
        return found


class Recorder:
    """Counts, logs and remembers for all listeners of one sidecar; `monotonic` only paces the log."""

    def __init__(
        self,
        metrics: Metrics,
        log: Logger,
        access: AccessLog,
        monotonic: Callable[[], float],
        wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    ) -> None:
        self.wanted = wanted
        self.metrics = metrics
        self.log = log
        self._access = access
        self._monotonic = monotonic
        self.flows = Flows()
        self.fresh = Fresh()
        self._rates: dict[tuple[str, str], Rate] = {}
        self.denials: deque[Denial] = deque(maxlen=_DENIALS_KEPT)
        self.counts: dict[str, ListenerCounts] = {}
        self.objections: dict[Objection, Tally] = {}
        self.objections_beyond = 0  # raised when too many different ones were remembered already
        self._objections_of: Counter[tuple[str, str]] = Counter()  # how many are remembered, by listener and caller

    def __repr__(self) -> str:
        return f"<Recorder {self.counts!r} denials={len(self.denials)}>"

    def listener(self, name: str) -> ListenerCounts:
        """Return the counts of one listener; names come from the settings, so there are few."""
        counts = self.counts.get(name)
        if counts is None:
            counts = self.counts[name] = ListenerCounts(name, self.metrics)
        return counts

    def may_tell(self, listener: str, what: str, *, at_once: int = _TOLD_AT_ONCE) -> int | None:
        """Return None when `what` was told too often lately, else how many went untold since."""
        rate = self._rates.get((listener, what))
        if rate is None:
            per_second = min(_TOLD_PER_SECOND, at_once)
            rate = self._rates[listener, what] = Rate(per_second=per_second, burst=at_once)
        return rate.take(self._monotonic())

    def opened(self, listener: str) -> None:
        """Count a connection that was taken on."""
        counts = self.listener(listener)
        counts.open += 1
        counts.open_now.value += 1.0

    def closed(self, listener: str, line: ConnectionLine | None, flow: Flow | None = None) -> None:
        """Count the end of a connection that was `opened`, and write its access line; `flow` is what it had entered.

        Without a line (it never authenticated, or was refused unjudged) its own event and counter have told already.
        """
        counts = self.listener(listener)
        counts.open -= 1
        counts.open_now.value -= 1.0
        if flow is not None:
            flow.leave()
        if line is None:
            return
        if flow is not None and flow.edge.protocol == "tcp":
            _count_stream(flow, line)
        counts.take(line)
        lines = self.wanted.lines
        if lines is AccessLines.ALL or (lines is AccessLines.FAILURES and not _is_ordinary(line)):
            self._access(line)

    def bare_fin(self, listener: str) -> None:
        """Count a TLS peer that ended without `close_notify`, whatever the listener makes of it."""
        self.metrics.bare_fins.labels(listener).inc()

    def requests_of(self, listener: str) -> Requests:
        """Return who is told of the requests of one listener."""
        counts = self.listener(listener)
        if counts.requests is None:
            counts.requests = Requests(listener, self.metrics, self._access, self.wanted)
        return counts.requests

    def terminated(self, listener: str, count: int) -> None:
        """Count streams that were cut because the allow-list no longer grants them; each has its access line."""
        self.metrics.authz_terminated.labels(listener).inc(count)

    def decided(self, listener: str, outcome: str, *, rule: str, mode: str, reason: str) -> None:
        """Count one decision of an allow-list."""
        self.decisions(listener, outcome, rule=rule, mode=mode, reason=reason).inc()

    def decisions(self, listener: str, outcome: str, *, rule: str, mode: str, reason: str) -> Number:
        """Return where decisions of one kind are counted."""
        return self.metrics.authz_decisions.labels(listener, outcome, rule, mode, reason)

    def reached(self, listener: str, limit: str) -> None:
        """Count that a limit was reached, by its key in the settings; what follows from it is told elsewhere."""
        self.metrics.limit_hits.labels(listener, limit).inc()

    def refused(self, listener: str, reason: str, *, peer: str, remedy: str = "", limit: str = "") -> None:
        """Count a connection closed before anything was judged: not ready, wrong user, or the `limit` that says no."""
        if limit:
            self.reached(listener, limit)
        counts = self.listener(listener)
        counts.refused[reason] = counts.refused.get(reason, 0) + 1
        self.metrics.connections_refused.labels(listener, reason).inc()
        untold = self.may_tell(listener, reason)
        if untold is not None:
            self.log.warning(
                "connection_refused", listener=listener, reason=reason, peer=peer, untold=untold, remedy=remedy
            )

    def handshake_failed(self, listener: str, fault: str, *, peer: str, detail: str, claimed: str = "") -> None:
        """Count a peer that did not authenticate; `claimed` is what its certificate says, for people only."""
        self.listener(listener).handshake_failures += 1
        self.metrics.handshake_failures.labels(listener, fault).inc()
        untold = self.may_tell(listener, "handshake_failed")
        if untold is not None:
            self.log.warning(
                "handshake_failed",
                listener=listener,
                reason=fault,
                detail=detail,
                peer=peer,
                claimed=claimed,
                untold=untold,
            )

    def shook_hands(self, listener: str, seconds: float, waited: float) -> None:
        """Take how long the handshake of a caller lasted that succeeded, and how much of that it waited for us."""
        counts, metrics = self.listener(listener), self.metrics
        if counts.handshakes is None:
            counts.handshakes = metrics.handshake_seconds.labels(listener), metrics.handshake_wait.labels(listener)
        lasted, waits = counts.handshakes
        lasted.observe(seconds)
        waits.observe(waited)

    def waited(self, listener: str, seconds: float) -> None:
        """Take how long a request waited for an upstream connection."""
        self.metrics.upstream_wait.labels(listener).observe(seconds)

    def upstream_failed(self, listener: str, phase: str, *, endpoint: str, detail: str) -> None:
        """Count an attempt at an upstream that failed."""
        self.listener(listener).failed_upstream += 1
        self.metrics.upstream_failures.labels(listener, phase).inc()
        untold = self.may_tell(listener, "upstream_failed")
        if untold is not None:
            self.log.warning(
                "upstream_failed", listener=listener, phase=phase, endpoint=endpoint, detail=detail, untold=untold
            )

    def objected(self, objection: Objection, ts: str, nearest: str) -> None:
        """Count what the allow-list has against a caller, for the summary since start; `nearest` may be empty."""
        self.fresh.note(
            Refused(objection.listener, objection.outcome, objection.caller, objection.asked, objection.reason), ts
        )
        tally = self.objections.get(objection)
        if tally is None:
            whose = (objection.listener, objection.caller)
            if len(self.objections) >= _OBJECTIONS_KEPT or self._objections_of[whose] >= _OBJECTIONS_PER_CALLER:
                self.objections_beyond += 1
                return
            self._objections_of[whose] += 1
            tally = self.objections[objection] = Tally()
        tally.count += 1
        tally.last = ts
        tally.nearest = nearest or tally.nearest

    def denied(self, denial: Denial) -> None:
        """Remember a refused caller for `status`."""
        self.denials.append(Denial(denial.ts, denial.listener, printable(denial.caller), denial.reason, denial.nearest))

    def starved(self, listener: str, error: OSError) -> None:
        """Count a pause in accepting; told at most once per second."""
        self.metrics.accept_pauses.labels(listener).inc()
        untold = self.may_tell(listener, "starved", at_once=1)
        if untold is not None:
            self.log.error(
                "accepting_paused",
                listener=listener,
                error=error.strerror or str(error),
                remedy="raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections",
                untold=untold,
            )


def _is_ordinary(line: ConnectionLine) -> bool:
    return line.end == "clean" and line.decision in {"", "allow"}


def _count_stream(flow: Flow, line: ConnectionLine) -> None:
    """Count a connection in TCP mode that is over."""
    if line.end == "denied" and not line.upstream:
        flow.denied += 1
        return
    failed = line.end in _ERRORS
    flow.over(line.duration_ms / 1000, failed=failed)  # its bytes were counted as they moved
