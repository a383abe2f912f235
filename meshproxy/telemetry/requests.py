"""The HTTP requests of one listener: counted, and told in the access log as far as that is wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from meshproxy.telemetry.access import JsonAccessLog
from meshproxy.telemetry.families import Buckets, Number
from meshproxy.telemetry.wanted import AccessLines

if TYPE_CHECKING:
    from meshproxy.telemetry.access import AccessLog, RequestLine
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.telemetry.wanted import Wanted

# By the hundreds of a status; 0: no answer was begun.
_CLASSES = ("none", *(f"{hundreds}xx" for hundreds in range(1, 10)))


class Requests:
    """Counts the HTTP requests of one listener and writes their access lines; what it adds to is looked up once."""

    __slots__ = (
        "_access",
        "_by_answer",
        "_by_status",
        "_listener",
        "_metrics",
        "bytes_in",
        "bytes_out",
        "put_all",
        "wanted",
    )

    def __init__(self, listener: str, metrics: Metrics, access: AccessLog, wanted: Wanted) -> None:
        self._listener = listener
        self._access = access
        self.wanted = wanted
        # Takes lines that are written already; None: they are not written as JSON.
        self.put_all = access.put_all if isinstance(access, JsonAccessLog) else None
        self._metrics = metrics
        self._by_answer: dict[tuple[int, str], Number] = {}  # by status and failure
        self._by_status: dict[int, Buckets] = {}
        counts = wanted.request_metrics  # else what is added to is shown to nobody
        self.bytes_in = metrics.bytes.labels(listener, "in") if counts else Number()
        self.bytes_out = metrics.bytes.labels(listener, "out") if counts else Number()

    def __repr__(self) -> str:
        return f"<Requests of {self._listener}>"

    def tell(self, line: RequestLine) -> None:
        """Take a request that is over."""
        if self.wanted.request_metrics:
            self.count(line.status, line.failure, line.bytes_in, line.bytes_out, line.duration_ms / 1e3)
            if line.flag:
                self._metrics.response_flags.labels(self._listener, line.flag).inc()
            if line.span_id:
                self.lasted(line.status).exemplify(line.duration_ms / 1e3, line.trace_id, time.time())
        if self.wanted.lines is AccessLines.ALL or (self.wanted.lines is AccessLines.FAILURES and _has_failed(line)):
            self._access(line)

    def count(self, status: int, failure: str, bytes_in: int, bytes_out: int, seconds: float) -> None:
        """Count a request that is over."""
        self.answered(status, failure).value += 1.0
        self.lasted(status).observe(seconds)
        if bytes_in:
            self.bytes_in.value += bytes_in
        self.bytes_out.value += bytes_out

    def lasted(self, status: int) -> Buckets:
        """Return where it is counted how long requests took that were answered like this."""
        buckets = self._by_status.get(status)
        if buckets is None:
            family, counts = self._metrics.request_seconds, self.wanted.request_metrics
            buckets = family.labels(self._listener, _CLASSES[status // 100]) if counts else Buckets()
            self._by_status[status] = buckets
        return buckets

    def answered(self, status: int, failure: str = "") -> Number:
        """Return where requests are counted that were answered like this.

        For who writes the lines of many himself: he counts them there, and their bodies in `bytes_in` and `bytes_out`.
        """
        number = self._by_answer.get((status, failure))
        if number is None:
            family = self._metrics.requests
            counts, status_class = self.wanted.request_metrics, _CLASSES[status // 100]
            number = family.labels(self._listener, status_class, failure) if counts else Number()
            self._by_answer[status, failure] = number
        return number


def _has_failed(line: RequestLine) -> bool:
    return bool(line.failure) or line.status >= 500 or line.decision not in {"", "allow"}
