"""Two days at every edge, in three resolutions, bounded whoever calls."""

from __future__ import annotations

import tracemalloc

import pytest

from meshproxy.telemetry.bounds import BUCKETS
from meshproxy.telemetry.flows import OTHER, Edge, Point
from meshproxy.telemetry.rings import BYTES_PER_EDGE, TIERS
from meshproxy.telemetry.series import Marker, Series, window_of

NOW = 1_800_000_000.0
WEB = Edge("destination", "/web", "/api", "api", "http")
ONE = Point(1, 0, 0, 2, 3, 1000, 1, (1, *[0] * (BUCKETS - 1)))


def requests(series: Series, tier: str, edge: Edge = WEB) -> dict[int, int]:
    [track] = [track for track in series if track.edge == edge]
    return {column * TIERS[tier].step: point.requests for column, point in track.rings[tier].since(0)}


def test_a_second_is_in_the_column_in_which_it_was_of_each_resolution() -> None:
    series = Series(NOW)
    for second in range(1, 122):
        series.take(NOW + second + 0.003, [(WEB, ONE)])
    assert requests(series, "1s") == {int(NOW) + second: 1 for second in range(121)}
    assert requests(series, "10s") == {int(NOW) + 10 * n: 10 for n in range(12)} | {int(NOW) + 120: 1}
    assert requests(series, "1m") == {int(NOW): 60, int(NOW) + 60: 60, int(NOW) + 120: 1}


def test_the_same_edge_of_several_workers_is_one() -> None:
    series = Series(NOW)
    [(track, point)] = series.take(NOW + 1, [(WEB, ONE), (WEB, ONE)]).items()
    assert (point.requests, point.bytes_out, point.histogram[0]) == (2, 6, 2)
    assert series.find(track.id) is track
    assert len(series) == 1


def test_ids_of_edges_stay_and_are_never_used_again() -> None:
    series = Series(NOW, most=1)
    [first] = series.take(NOW + 1, [(WEB, ONE)])
    two_days = 48 * 3600 + 120
    series.take(NOW + two_days, [])
    assert len(series) == 0
    [again] = series.take(NOW + two_days + 1, [(WEB, ONE)])
    assert first.id != again.id


def test_ten_thousand_callers_in_an_hour_are_bounded_and_all_counted() -> None:
    """Each is there for a moment; who was there first has an edge, the others have one together."""
    series = Series(NOW)
    tracemalloc.start()
    for second in range(3600):
        callers = range(3 * second, 3 * second + 3)
        series.take(
            NOW + second + 1, [(Edge("destination", f"/c/{each}", "/api", "api", "http"), ONE) for each in callers]
        )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(series) == 256 + 1
    assert sum(sum(requests(series, "10s", track.edge).values()) for track in series) == 3 * 3600
    [other] = [track for track in series if track.edge.source == OTHER]
    assert sum(requests(series, "1m", other.edge).values()) == 3 * 3600 - 256
    # 256 edges that were used once, and one that never rests.
    assert held < BYTES_PER_EDGE * 1.3 + 256 * 8 * 1024


def test_an_hour_that_the_clock_is_set_back_has_not_been() -> None:
    series = Series(NOW)
    series.take(NOW + 1, [(WEB, ONE)])
    series.take(NOW + 3601, [(WEB, ONE)])
    series.take(NOW + 2, [(WEB, ONE)])
    assert requests(series, "1s") == {int(NOW) + 1: 1}, "the hour that was not has pushed out ten minutes"
    assert requests(series, "1m") == {int(NOW): 2}


def test_a_clock_that_is_set_back_by_a_moment_forgets_nothing() -> None:
    series = Series(NOW)
    series.take(NOW + 10, [(WEB, ONE)])
    series.take(NOW + 8.7, [(WEB, ONE)])
    series.take(NOW + 11, [(WEB, ONE)])
    assert sum(requests(series, "1s").values()) == 3


def test_what_happened_in_a_window_is_told_with_the_time_it_covers() -> None:
    series = Series(NOW)
    for second in range(1, 1201):
        series.take(NOW + second, [(WEB, ONE)])
    [track] = series
    point, seconds = series.total(track, 60.0)
    assert point.requests == seconds == 60
    point, seconds = series.total(track, 100_000.0)
    assert point.requests == seconds == 1200
    assert point.histogram[0] == 1200


def test_of_markers_the_last_are_kept() -> None:
    series = Series(NOW)
    for number in range(1000):
        series.mark(Marker(NOW + number, "reload", str(number)))
    assert [marker.text for marker in series.markers] == [str(number) for number in range(744, 1000)]


@pytest.mark.parametrize(
    ("since", "first", "columns"),
    [
        (None, 1_799_999_401, 600),
        (0.0, 1_799_999_401, 600),
        (NOW - 10, 1_799_999_990, 11),
        (NOW, 1_800_000_000, 1),
        (NOW + 1e9, 1_800_000_000, 1),
    ],
)
def test_who_asks_since_a_time_gets_the_steps_from_there_on(since: float | None, first: int, columns: int) -> None:
    assert window_of(TIERS["1s"], NOW, since) == (first, columns)
