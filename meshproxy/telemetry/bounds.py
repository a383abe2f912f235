"""Where the buckets of every histogram of requests end; pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# In seconds: those that OpenTelemetry advises for `http.server.request.duration` (semantic conventions, HTTP metrics).
# A last bucket has what took longer.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
BUCKETS: Final = len(BOUNDS) + 1


def bucket_of(seconds: float) -> int:
    """Return the bucket of a time: that of the first bound which is no less (Prometheus' `le`)."""
    return bisect_left(BOUNDS, seconds)
