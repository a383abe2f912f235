"""Where the requests of one listener are told: those in which nothing is out of the ordinary, all of a batch in a row.

To tell of one takes 3 us while the code for it and what it counts in are at hand, and three times as long when they
are not: between two requests the traffic pushes them out of the caches of the processor. A busy engine has twenty
requests in a batch of events; so what is ordinary waits for the end of the batch, and is told together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from meshproxy.telemetry.access import present_time
from meshproxy.telemetry.bounds import BOUNDS
from meshproxy.telemetry.wanted import AccessLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.http.exchange import Decided, Exchange
    from meshproxy.telemetry.access import RequestLine
    from meshproxy.telemetry.flows import Flow
    from meshproxy.telemetry.record import Recorder
    from meshproxy.telemetry.requests import Requests
    from meshproxy.tracing.tracer import Tracer
    from meshproxy.upstream.pool import UpstreamConnection

# What of a path goes into a log line; lines that wait for a slow reader are bounded by their number.
LONGEST_PATH: Final = 1024

SERVER_ERRORS: Final = 500  # statuses from here on; RFC 9110 section 15.6

# A line as it is encoded; between the fields that each request has anew stand those that are the same for many.
_FORM: Final = (
    b'{"event":"request","ts":"%%b",%b,"id":"%%b","request_id":"%%b","peer":"%%b","method":"%%b","path":"%%b",%b%%b'
    b'"duration_ms":%%b,"answer_ms":%%b,"trace_id":"%%b"}\n'
)
# Up to a second in milliseconds, and the places behind them: `%03d` takes five times as long.
_FULL: Final = 1000
_WHOLE: Final = tuple(b"%d" % number for number in range(_FULL))
_PLACES: Final = tuple(b".%03d" % number for number in range(_FULL))

# Makes another text of one that has bytes which may not stand in JSON as they are. No regex is as quick, and a table of
# what to delete would be built anew each time.
_AS_THEY_STAND: Final = bytes(byte if byte in range(0x21, 0x7F) and byte not in b'"\\' else 0x3F for byte in range(256))


class Tally:
    """Where requests are counted that were answered alike on one edge: those of a batch, and how long each took."""

    __slots__ = ("_count", "_durations", "_flow", "_requests", "_took", "bytes_in", "bytes_out", "times")

    def __init__(self, requests: Requests, flow: Flow, status: int) -> None:
        self._requests = requests
        self._count = requests.answered(status)
        self._durations = requests.lasted(status)
        self._flow = flow
        self._took = flow.took if status < SERVER_ERRORS else flow.took_failed
        self.times: list[float] = []
        self.bytes_in = self.bytes_out = 0

    def __repr__(self) -> str:
        return f"<Tally of {len(self.times)} at {self._flow!r}>"

    def settle(self) -> None:
        """Add what was noted to the numbers, and begin anew."""
        times, took, counts = self.times, self._took, self._durations.counts
        times.sort()
        done, many = 0, len(times)
        while done < many:  # once for each bucket that has any: mostly one or two
            bucket = bisect_left(BOUNDS, times[done])
            upto = bisect_right(times, BOUNDS[bucket], done) if bucket < len(BOUNDS) else many
            took[bucket] += upto - done
            counts[bucket] += upto - done
            done = upto
        together, requests, flow = sum(times), self._requests, self._flow
        self._count.value += many
        self._durations.total += together
        requests.bytes_in.value += self.bytes_in
        requests.bytes_out.value += self.bytes_out
        flow.micros += int(together * 1e6 + 0.5)
        flow.bytes_in += self.bytes_in
        flow.bytes_out += self.bytes_out
        self.bytes_in = self.bytes_out = 0
        times.clear()


# What the ordinary requests of a story have in common while these are the same: what was decided, the status, the
# address and the identity it went to. Then how their lines are written (empty: not at all; None: each by its story),
# and where they are counted.
Alike = tuple["Decided | None", int, str, str, bytes | None, Tally]

_MOST_KEPT: Final = 64  # of forms, and of tallies


class Tale(Protocol):
    """The story of one connection, as the ledger knows it."""

    alike: Alike | None  # None: nothing was told yet
    id: bytes  # of its connection, and who is at the far end; as they stand in a line
    peer: bytes
    caller: str
    flow: Flow
    rule: str
    requests: int
    bytes_in: int
    bytes_out: int

    def finished(self, exchange: Exchange, upstream: UpstreamConnection | None) -> None:
        """Tell of an exchange."""

    def line(self, exchange: Exchange, upstream: UpstreamConnection | None) -> RequestLine:
        """Return its access line."""


class Ledger:
    """The book of one listener; `afterwards` is the engine's: it calls what it is given once this batch is over."""

    __slots__ = (
        "_afterwards",
        "_forms",
        "_put_all",
        "_tallies",
        "listener",
        "recorder",
        "requests",
        "tracer",
        "waiting",
    )

    def __init__(
        self,
        listener: str,
        recorder: Recorder,
        afterwards: Callable[[Callable[[], None]], None],
        tracer: Tracer | None = None,
    ) -> None:
        self.listener = listener
        self.recorder = recorder
        self.tracer = tracer
        self.requests = recorder.requests_of(listener)
        self._put_all = self.requests.put_all
        self._afterwards = afterwards
        self._tallies: dict[tuple[Flow, int], Tally] = {}
        self._forms: dict[tuple[Decided | None, int, str, str, str], bytes] = {}
        self.waiting: list[tuple[Tale, Exchange, UpstreamConnection]] = []

    def __repr__(self) -> str:
        return f"<Ledger of {self.listener} waiting={len(self.waiting)}>"

    def begin(self) -> None:
        """Take that somebody waits: what does is told when the batch is over."""
        self._afterwards(self.tell)

    def tell(self) -> None:
        """Tell of all that wait."""
        waiting = self.waiting[:]
        self.waiting.clear()  # stories have looked the list up once
        try:
            self._tell(waiting)
        except Exception:  # called by the engine: a fault in here would end it, and all connections
            untold = self.recorder.may_tell(self.listener, "telling")
            if untold is not None:
                self.recorder.log.exception("internal_error", during="telling", listener=self.listener, untold=untold)

    def _tell(self, waiting: list[tuple[Tale, Exchange, UpstreamConnection]]) -> None:
        """Tell of these; who is out of the ordinary tells of it himself.

        A line says the same in the same order as any other. Its times are written with all three places: to find the
        shortest spelling of two floats takes as long as all else.
        """
        now = present_time().encode()
        lines: list[bytes] = []
        tallies: list[Tally] = []
        for story, exchange, upstream in waiting:
            decided, status, target, identity, form, tally = story.alike or self._liken(story, exchange, upstream)
            if (
                exchange.decided is not decided
                or exchange.status != status
                or upstream.target != target
                or upstream.identity != identity
            ):
                *_, form, tally = self._liken(story, exchange, upstream)
            line = _written(form, story, exchange, now)
            if line is None:
                if lines and self._put_all is not None:  # in order
                    self._put_all(lines)
                    lines.clear()
                story.finished(exchange, upstream)
                continue
            if line:
                lines.append(line)
            times, bytes_in, bytes_out = tally.times, exchange.bytes_in, exchange.bytes_out
            if not times:
                tallies.append(tally)
            times.append(exchange.ended - exchange.started)
            story.requests += 1
            if bytes_in:
                tally.bytes_in += bytes_in
                story.bytes_in += bytes_in
            tally.bytes_out += bytes_out
            story.bytes_out += bytes_out
        if lines and self._put_all is not None:
            self._put_all(lines)
        for tally in tallies:
            tally.settle()

    def _liken(self, story: Tale, exchange: Exchange, upstream: UpstreamConnection) -> Alike:
        """Have a story know what this request has in common with those like it."""
        decided, status = exchange.decided, exchange.status
        tally = self._tallies.get((story.flow, status))
        if tally is None:
            if len(self._tallies) >= _MOST_KEPT:
                self._tallies.clear()  # whoever has one already goes on with it
            tally = self._tallies[story.flow, status] = Tally(self.requests, story.flow, status)
        form: bytes | None = None
        if self.requests.wanted.lines is not AccessLines.ALL:
            is_failure = status >= SERVER_ERRORS or (decided is not None and decided.decision != "allow")
            form = None if is_failure else b""
        elif self._put_all is not None:
            kind = decided, status, upstream.target, upstream.identity, story.caller
            form = self._forms.get(kind)
            if form is None:
                if len(self._forms) >= _MOST_KEPT:
                    self._forms.clear()
                form = self._forms[kind] = _form_of(story.line(exchange, upstream))
        story.rule = "" if decided is None else decided.rule
        alike = story.alike = decided, status, upstream.target, upstream.identity, form, tally
        return alike


def _written(form: bytes | None, story: Tale, exchange: Exchange, now: bytes) -> bytes | None:
    """Return the line of an exchange; empty if it has none, None if it is no ordinary one."""
    head, request_id = exchange.head, exchange.request_id
    if form is None or exchange.trace is not None or exchange.resent or head is None:
        return None
    if not form:
        return form
    path = head.target.path
    if len(path) > LONGEST_PATH or path.translate(_AS_THEY_STAND) != path:
        return None
    if not request_id.isalnum() and request_id.translate(_AS_THEY_STAND) != request_id:
        return None
    lasted, waited = exchange.ended - exchange.started, exchange.answered - exchange.upstream_asked
    duration = _in_milliseconds(lasted)
    bytes_in, bytes_out = exchange.bytes_in, exchange.bytes_out
    sizes = b'"bytes_out":%d,' % bytes_out if bytes_out else b""
    return form % (
        now,
        story.id,
        request_id,
        story.peer,
        head.method,
        path,
        b'"bytes_in":%d,%b' % (bytes_in, sizes) if bytes_in else sizes,
        duration,
        duration if waited == lasted else _in_milliseconds(waited),  # mostly it is: asked and answered at once
        exchange.trace_id,
    )


def _in_milliseconds(seconds: float) -> bytes:
    micros = int(seconds * 1e6 + 0.5)
    whole = micros // _FULL
    return (_WHOLE[whole] if whole < _FULL else b"%d" % whole) + _PLACES[micros % _FULL]


def _form_of(line: RequestLine) -> bytes:
    """Return how ordinary lines like this one are written: what they have in common, and room for the rest.

    A quote within a value is escaped, so the marks are found where they are meant.
    """
    text = msgspec.json.encode(line).replace(b"%", b"%%")
    begins = text[text.index(b'"listener":') : text.index(b',"id":')]
    how = text[text.index(b'"status":') : _first_of(text, b'"bytes_in":', b'"bytes_out":', b'"duration_ms":')]
    return _FORM % (begins, how)


def _first_of(text: bytes, *marks: bytes) -> int:
    return min(at for at in map(text.find, marks) if at >= 0)
