"""What the admin API says of traffic, as JSON: /series, /topology's rates and each second's news; pure.

The shapes are documented in docs/admin-api.md, field by field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from meshproxy.telemetry.rings import TIERS
from meshproxy.telemetry.series import window_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshproxy.telemetry.flows import Point
    from meshproxy.telemetry.rings import Tier
    from meshproxy.telemetry.series import Series, Track

_encode = msgspec.json.Encoder().encode


def edge_of(track: Track) -> dict[str, object]:
    """Return the fields that every answer has of an edge."""
    edge = track.edge
    return {
        "edge": track.id,
        "reporter": edge.reporter,
        "source": edge.source,
        "target": edge.target,
        "listener": edge.listener,
        "protocol": edge.protocol,
        "mtls": edge.mtls,
    }


def point_of(column: int, point: Point) -> list[float]:
    """Return a point as answers have it; `column` as the answer counts them."""
    return [
        column,
        point.requests,
        point.errors,
        point.denied,
        point.bytes_in,
        point.bytes_out,
        round(point.micros / 1e6, 6),
        point.opened,
    ]


def series_in_parts(series: Series, tier: Tier, *, since: float | None, edge: str | None) -> Iterator[bytes]:
    """Yield the answer of /series in parts, one for each edge: all of a busy mesh takes longer than a loop may stand.

    Between two parts the series may go on.
    """
    # A second is put into the series when it is over: of the one that has just begun nothing is known.
    first, columns = window_of(tier, series.latest - 0.5, since)
    head: dict[str, object] = {
        "now": series.latest,
        "tier": tier.name,
        "step": float(tier.step),
        "start": float(first * tier.step),
        "columns": columns,
        "markers": [marker for marker in series.markers if marker.at >= first * tier.step],
    }
    yield _encode(head)[:-1] + b',"edges":['
    tracks = [track for track in series if edge is None or track.id == edge]
    is_first = True
    for track in tracks:
        # What has happened since the answer began is of a column that it does not have.
        found = [each for each in track.rings[tier.name].since(first) if each[0] < first + columns]
        if not found:
            continue
        row = edge_of(track)
        row["points"] = [point_of(column - first, point) for column, point in found]
        if tier.has_histogram:
            row["histogram"] = [(column - first, point.histogram) for column, point in found if any(point.histogram)]
        yield (b"" if is_first else b",") + _encode(row)
        is_first = False
    yield b"]}\n"


def tick(now: float, happened: Iterable[tuple[Track, Point]], gauges: dict[str, float]) -> bytes:
    """Return the news of one second; a point's first number is the second itself, since 1970."""
    second = TIERS["1s"].column_of(now - 0.5)
    edges = [
        {**edge_of(track), "point": point_of(second, point), "histogram": point.histogram} for track, point in happened
    ]
    return _encode({"now": now, "edges": edges, "gauges": gauges})
