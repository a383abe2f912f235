"""How long requests took, told from a histogram; pure.

A quantile is somewhere in the bucket it falls into: between the bounds it is taken to lie as if the bucket were filled
evenly, as Prometheus' `histogram_quantile` does. What lies in the last bucket is told as its lower bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.telemetry.bounds import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence


def quantile(share: float, histogram: Sequence[int]) -> float | None:
    """Return in how many seconds `share` (0 to 1) of the requests were over; None: there were none."""
    total = sum(histogram)
    if not total:
        return None
    rank, before = share * total, 0
    for bucket, count in enumerate(histogram):
        if count and before + count >= rank:
            if bucket >= len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[bucket - 1] if bucket else 0.0
            return low + (BOUNDS[bucket] - low) * max(rank - before, 0.0) / count
        before += count
    return BOUNDS[-1]
