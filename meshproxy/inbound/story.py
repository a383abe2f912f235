"""What became of each request of one connection: its access line, and its place in the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided
from meshproxy.inbound.ledger import LONGEST_PATH, SERVER_ERRORS
from meshproxy.inbound.machinery import clock
from meshproxy.telemetry.access import RequestLine, present_time
from meshproxy.tracing.spans import Scene

if TYPE_CHECKING:
    from meshproxy.http.exchange import Exchange
    from meshproxy.inbound.ledger import Alike, Ledger
    from meshproxy.inbound.visit import Visit
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.pool import UpstreamConnection
    from meshproxy.wire.ends import ConnectionEnd

# Outbound, and where what came was no request.
_NOT_DECIDED: Final = Decided("", "", "", "", "", "")


class Story:
    """Tells the requests of one connection: an access line and a count for each."""

    __slots__ = (
        "_ledger",
        "_recorder",
        "_requests",
        "_tracer",
        "_visit",
        "_waiting",
        "alike",
        "bytes_in",
        "bytes_out",
        "caller",
        "flow",
        "id",
        "peer",
        "requests",
        "rule",
    )

    def __init__(self, visit: Visit, ledger: Ledger) -> None:
        self._visit = visit
        self._ledger = ledger
        self._waiting = ledger.waiting
        self._recorder = ledger.recorder
        self._tracer = ledger.tracer
        self._requests = ledger.requests
        self.flow = visit.flow or ledger.recorder.flows.unseen
        self.requests = self.bytes_in = self.bytes_out = 0  # of those that are over
        self.rule = ""
        self.alike: Alike | None = None  # the ledger's
        self.id, self.peer = visit.id.encode(), msgspec.json.encode(visit.peer)[1:-1]
        self.caller = visit.caller
        visit.talk = self

    def __repr__(self) -> str:
        return f"<Story of {self._visit.id}>"

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Tell of an exchange that is over."""
        if self._waiting:  # in order
            self._ledger.tell()
        if exchange.limit:
            self.reached(exchange.limit)
        line = self.line(exchange, upstream)
        self._requests.tell(line)
        self._count(exchange, exchange.ended - exchange.started)
        if exchange.trace is not None:
            self._trace(exchange, line)

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        """As `finished`, of a request that was answered whole: told when this batch is over."""
        waiting = self._waiting
        waiting.append((self, exchange, upstream))
        if len(waiting) == 1:
            self._ledger.begin()

    def upgraded(self, exchange: Exchange, upstream: UpstreamConnection, ended: ConnectionEnd) -> None:
        """Tell of an exchange that became a stream, which is over."""
        line = self.line(exchange, upstream)
        if ended.limit:
            self.reached(ended.limit)
        self._requests.tell(msgspec.structs.replace(line, end=ended.end, detail=ended.detail))
        # How long the stream lasted says nothing of how quick the service is; its bytes were counted as they moved.
        self.flow.over(exchange.answered - exchange.started, failed=False)
        if exchange.trace is not None:
            self._trace(exchange, line)

    def _count(self, exchange: Exchange, lasted: float) -> None:
        """Count an exchange at the edge of its caller and its service."""
        failure = exchange.failure
        self.requests += 1
        self.bytes_in += exchange.bytes_in
        self.bytes_out += exchange.bytes_out
        if exchange.decided is not None and exchange.decided.rule:
            self.rule = exchange.decided.rule
        if failure is Failure.DENIED:
            self.flow.denied += 1
            return
        failed = exchange.status >= SERVER_ERRORS or (failure is not None and failure.status >= SERVER_ERRORS)
        self.flow.over(lasted, failed=failed, bytes_in=exchange.bytes_in, bytes_out=exchange.bytes_out)

    def waited(self, seconds: float) -> None:
        """Take how long an exchange has waited for an upstream connection."""
        self._recorder.waited(self._visit.listener, seconds)

    def reached(self, limit: str) -> None:
        """Count a limit that was reached, by its key in the settings."""
        self._recorder.reached(self._visit.listener, limit)

    def upstream_failed(self, failure: FailedAttempt, exchange: Exchange) -> None:
        """Tell of an attempt at an upstream that failed."""
        if failure.timed_out:
            self.reached("connect_timeout")
        trace = exchange.trace
        if trace is not None:
            began, trace.attempt_began = trace.attempt_began, clock()
            trace.try_failed(began, trace.attempt_began, failure.endpoint, failure.phase, failure.detail)
        self._recorder.upstream_failed(
            self._visit.listener, failure.phase, endpoint=failure.endpoint, detail=failure.detail
        )

    def line(self, exchange: Exchange, upstream: UpstreamConnection | None) -> RequestLine:
        """Return the access line of an exchange."""
        visit, head, failure = self._visit, exchange.head, exchange.failure
        decided = exchange.decided or _NOT_DECIDED
        asked, answered = exchange.upstream_asked, exchange.answered
        method, path = (b"", b"") if head is None else (head.method, head.target.path[:LONGEST_PATH])
        # A pipelined request that was refused stands beside the upstream of the one before it.
        target, identity = ("", "") if upstream is None or not asked else (upstream.target, upstream.identity)
        # In the order of the struct: by keywords this took 2.0 us instead of 0.2. Times are milliseconds to the
        # microsecond; round() takes three times as long.
        return RequestLine(
            present_time(),
            visit.listener,
            visit.direction,
            visit.id,
            exchange.request_id.decode("latin-1"),
            visit.peer,
            method.decode("latin-1"),
            path.decode("latin-1"),
            exchange.status,
            visit.caller,
            decided.decision,
            decided.rule,
            decided.reason,
            decided.mode,
            decided.policy,
            target,
            identity,
            exchange.bytes_in,
            exchange.bytes_out,
            int((exchange.ended - exchange.started) * 1e6 + 0.5) / 1e3,
            int((answered - asked) * 1e6 + 0.5) / 1e3 if asked and answered else 0.0,
            exchange.trace_id.decode("latin-1"),
            "" if exchange.trace is None else exchange.trace.span_id.decode("ascii"),
            "" if failure is None else failure.word,
            "" if failure is None else failure.flag,
            exchange.detail,
            exchange.resent,
        )

    def _trace(self, exchange: Exchange, line: RequestLine) -> None:
        if self._tracer is not None:
            visit = self._visit
            scene = Scene(visit.listener, visit.direction, visit.peer, visit.caller, line.upstream, line.upstream_id)
            self._tracer.tell(exchange, scene)
