"""What became of each request of one connection: its access line, and its place in the numbers."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided
from meshproxy.inbound.machinery import clock
from meshproxy.telemetry.access import RequestLine, present_time
from meshproxy.telemetry.bounds import BOUNDS
from meshproxy.telemetry.wanted import AccessLines
from meshproxy.tracing.spans import Scene

if TYPE_CHECKING:
    from meshproxy.http.exchange import Exchange
    from meshproxy.inbound.accept import Services, Visit
    from meshproxy.telemetry.families import Buckets, Number
    from meshproxy.upstream.attempt import FailedAttempt
    from meshproxy.upstream.pool import UpstreamConnection
    from meshproxy.wire.ends import ConnectionEnd

# What of a path goes into a log line; lines that wait for a slow reader are bounded by their number.
_LONGEST_PATH: Final = 1024

_SERVER_ERRORS: Final = 500  # statuses from here on; RFC 9110 section 15.6

# Outbound, and where what came was no request.
_NOT_DECIDED: Final = Decided("", "", "", "", "", "")

# A request in which nothing is out of the ordinary, as its line is encoded; between the fields that each has anew stand
# those that are the same for many.
_ORDINARY: Final = (
    b'{"event":"request","ts":"%b",%b,"request_id":"%b",%b,"method":"%b","path":"%b",%b"bytes_out":%d,'
    b'"duration_ms":%b.%b,"answer_ms":%b.%b,"trace_id":"%b"}\n'
)
# Up to a second in milliseconds, and the places behind their point: `%03d` takes five times as long.
_FULL: Final = 1000
_WHOLE: Final = tuple(b"%d" % number for number in range(_FULL))
_PLACES: Final = tuple(b"%03d" % number for number in range(_FULL))
_AS_THEY_STAND: Final = bytes(set(range(0x21, 0x7F)) - set(b'"\\'))  # in a text of JSON; no regex is as quick


class Story:
    """Tells the requests of one connection: an access line and a count for each."""

    __slots__ = (
        "_bytes_out",
        "_common",
        "_decided",
        "_flow",
        "_is_first",
        "_put",
        "_recorder",
        "_requests",
        "_status",
        "_target",
        "_tracer",
        "_visit",
        "_went_to",
        "bytes_in",
        "bytes_out",
        "requests",
        "rule",
    )

    def __init__(self, visit: Visit, services: Services) -> None:
        self._visit = visit
        self._recorder = services.recorder
        self._tracer = services.tracer
        self._requests = services.recorder.requests_of(visit.listener)
        self._put = self._requests.put
        self._decided: Decided | None = None  # of the last ordinary request, and where it went,
        self._target = self._went_to = ""
        self._status = 0
        # What lines have in common while these are the same, and where such requests are counted.
        self._common: tuple[bytes, bytes, bytes, Number, Buckets, list[int]] | None = None
        self._bytes_out = self._requests.bytes_out
        self._flow = visit.flow or services.recorder.flows.unseen
        self.requests = self.bytes_in = self.bytes_out = 0  # of those that are over
        self.rule = ""
        visit.talk = self
        self._is_first = True  # mostly also the last

    def __repr__(self) -> str:
        return f"<Story of {self._visit.id}>"

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Tell of an exchange that is over."""
        if exchange.limit:
            self.reached(exchange.limit)
        line = self.line(exchange, upstream)
        self._requests.tell(line)
        self._count(exchange, exchange.ended - exchange.started)
        if exchange.trace is not None:
            self._trace(exchange, line)

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        """As `finished`, of a request that was answered whole; in a third of the time.

        The line says the same in the same order. Its times are written with all three places: to find the shortest
        spelling of two floats took as long as all else.
        """
        head, put, status = exchange.head, self._put, exchange.status
        if (
            put is None
            or head is None
            or self._is_first
            or not exchange.bytes_out
            or exchange.bytes_in
            or exchange.resent
            or exchange.trace is not None
            or len(head.target.path) > _LONGEST_PATH
            or (exchange.request_id + head.target.path).translate(None, _AS_THEY_STAND)
        ):
            self.finished(exchange, upstream)
            self._is_first = False
            return
        common = self._common
        if (
            common is None
            or exchange.decided is not self._decided
            or status != self._status
            or upstream.target != self._target
            or upstream.identity != self._went_to
        ):
            parts = _common_parts(self.line(exchange, upstream))
            took = self._flow.took if status < _SERVER_ERRORS else self._flow.took_failed
            common = self._common = *parts, self._requests.answered(status), self._requests.lasted(status), took
            self._decided, self._target, self._went_to = exchange.decided, upstream.target, upstream.identity
            self._status = status
            self.rule = "" if exchange.decided is None else exchange.decided.rule
        begins, who, how, count, durations, took = common
        seconds = exchange.ended - exchange.started
        lasted = int(seconds * 1e6 + 0.5)
        waited = int((exchange.answered - exchange.upstream_asked) * 1e6 + 0.5)
        lasted_ms, waited_ms = lasted // _FULL, waited // _FULL
        flow, bytes_out = self._flow, exchange.bytes_out
        bucket = bisect_left(BOUNDS, seconds)
        took[bucket] += 1
        durations.counts[bucket] += 1
        flow.micros += lasted
        flow.bytes_out += bytes_out
        self.requests += 1
        self.bytes_out += bytes_out
        count.value += 1.0
        durations.total += seconds
        self._bytes_out.value += bytes_out
        put(
            _ORDINARY
            % (
                present_time().encode(),
                begins,
                exchange.request_id,
                who,
                head.method,
                head.target.path,
                how,
                bytes_out,
                _WHOLE[lasted_ms] if lasted_ms < _FULL else b"%d" % lasted_ms,
                _PLACES[lasted % _FULL],
                _WHOLE[waited_ms] if waited_ms < _FULL else b"%d" % waited_ms,
                _PLACES[waited % _FULL],
                exchange.trace_id,
            )
        )

    def upgraded(self, exchange: Exchange, upstream: UpstreamConnection, ended: ConnectionEnd) -> None:
        """Tell of an exchange that became a stream, which is over."""
        line = self.line(exchange, upstream)
        if ended.limit:
            self.reached(ended.limit)
        self._requests.tell(msgspec.structs.replace(line, end=ended.end, detail=ended.detail))
        # How long the stream lasted says nothing of how quick the service is; its bytes were counted as they moved.
        self._flow.over(exchange.answered - exchange.started, failed=False)
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
            self._flow.denied += 1
            return
        failed = exchange.status >= _SERVER_ERRORS or (failure is not None and failure.status >= _SERVER_ERRORS)
        self._flow.over(lasted, failed=failed, bytes_in=exchange.bytes_in, bytes_out=exchange.bytes_out)

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
        method, path = (b"", b"") if head is None else (head.method, head.target.path[:_LONGEST_PATH])
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


class Quiet(Story):
    """Tells of requests without lines: all of them, or those in which nothing is out of the ordinary."""

    __slots__ = ()

    def answered(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        """See `Story`."""
        decided = exchange.decided
        if (
            exchange.trace is not None
            or exchange.status >= _SERVER_ERRORS
            or (decided is not None and decided.decision != "allow")
        ):
            self.finished(exchange, upstream)
            return
        lasted, wanted = exchange.ended - exchange.started, self._requests.wanted
        if wanted.request_metrics:
            self._requests.count(exchange.status, "", exchange.bytes_in, exchange.bytes_out, lasted)
        if wanted.series:
            self._count(exchange, lasted)


def story_of(visit: Visit, services: Services) -> Story:
    """Return who tells the requests of a connection, as it is wanted."""
    lines = services.recorder.requests_of(visit.listener).wanted.lines
    return (Story if lines is AccessLines.ALL else Quiet)(visit, services)


def _common_parts(line: RequestLine) -> tuple[bytes, bytes, bytes]:
    """Return what stands in an ordinary line before the request id, behind it, and from the status on.

    A quote within a value is escaped, so the marks are found where they are meant.
    """
    text = msgspec.json.encode(line)
    begins = text[text.index(b'"listener":') : text.index(b',"request_id":')]
    who = text[text.index(b'"peer":') : text.index(b',"method":')]
    how = text[text.index(b'"status":') : text.index(b'"bytes_out":')]
    return begins, who, how
