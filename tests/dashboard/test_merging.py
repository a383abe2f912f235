"""What many tell of a call becomes one: the destination is believed, and what only the source saw is not lost."""

from __future__ import annotations

import pytest

from meshproxy.dashboard.merging import MOST_CALLS, Call, Report, folded, merged, name_in, row
from meshproxy.dashboard.told import EdgeTold, Point, SeriesTold
from meshproxy.telemetry.flows import OTHER

TD = "mesh.test"


def point(column: int, requests: int, *, errors: int = 0, seconds: float = 0.0) -> Point:
    return (column, requests, errors, 0, 0, 0, seconds, 0)


def told(source: str, target: str, *points: Point, reporter: str = "destination", **more: object) -> EdgeTold:
    assert reporter in {"destination", "source"}
    plain = {"edge": "e1", "reporter": reporter, "source": source, "target": target, "listener": "api"}
    return EdgeTold(**{"protocol": "http", "points": list(points), **plain, **more})  # type: ignore[arg-type]


def report(name: str, *edges: EdgeTold, td: str = TD, start: float = 100.0) -> Report:
    return Report(name, td, SeriesTold(110.0, "1s", 1.0, start, 20, [], list(edges)))


def requests(call: Call) -> dict[int, float]:
    return {column: values[0] for column, values in call.points.items()}


def test_call_that_both_ends_report_is_counted_once() -> None:
    source = report("/web", told("/web", "/api", point(3, 9), reporter="source"))
    destination = report("/api", told("/web", "/api", point(3, 7)))
    (call,) = merged([source, destination], TD)
    assert (call.reporter, requests(call)) == ("destination", {103: 7})


def test_replicas_of_a_service_add_up() -> None:
    replicas = [report("/api", told("/web", "/api", point(3, 7), point(4, 1))) for _ in range(2)]
    (call,) = merged(replicas, TD)
    assert requests(call) == {103: 14, 104: 2}


def test_what_only_the_source_saw_is_taken_from_it() -> None:
    failing = [point(column, 5, errors=5) for column in (8, 9)]
    source = report("/web", told("/web", "/api", point(3, 5), *failing, reporter="source"))
    destination = report("/api", told("/web", "/api", point(3, 5)))
    (call,) = merged([source, destination], TD)
    assert requests(call) == {103: 5, 108: 5, 109: 5}
    assert call.points[108][1] == 5


def test_same_call_a_moment_earlier_or_later_is_not_another_one() -> None:
    source = report("/web", told("/web", "/api", point(2, 1), point(4, 1), reporter="source"))
    destination = report("/api", told("/web", "/api", point(3, 2)))
    (call,) = merged([source, destination], TD)
    assert requests(call) == {103: 2}


def test_histograms_follow_whom_the_points_follow() -> None:
    counts = [1] * 15
    source = told("/web", "/api", point(3, 1), reporter="source", histogram=[(3, counts)])
    destination = told("/web", "/api", point(3, 1), histogram=[(3, [2] * 15)])
    (call,) = merged([report("/web", source), report("/api", destination)], TD)
    assert call.histograms == {103: [2.0] * 15}


def test_local_is_who_tells_and_names_are_short_at_home_only() -> None:
    here = report("/web", told("local", "/api", point(1, 1), reporter="source"))
    there = report("/bank", told("/teller", "/bank", point(1, 1)), td="other.test")
    found = [(call.source, call.target) for call in merged([here, there], TD)]
    assert found == [("/web", "/api"), ("spiffe://other.test/teller", "spiffe://other.test/bank")]


@pytest.mark.parametrize(
    ("name", "of", "home", "expected"),
    [
        ("/web", "a.test", "a.test", "/web"),
        ("/web", "b.test", "a.test", "spiffe://b.test/web"),
        ("spiffe://a.test/web", "b.test", "a.test", "/web"),
        ("spiffe://a.test.evil/web", "b.test", "a.test", "spiffe://a.test.evil/web"),
        (OTHER, "b.test", "a.test", OTHER),
        ("/web", "", "", "/web"),
    ],
)
def test_name_is_short_in_its_own_trust_domain(name: str, of: str, home: str, expected: str) -> None:
    assert name_in(name, of, home) == expected


def test_calls_are_bounded_and_what_comes_beyond_is_counted_together() -> None:
    edges = [told(f"/{number:05}", "/api", point(1, 1)) for number in range(MOST_CALLS + 50)]
    calls = merged([report("/api", *edges)], TD)
    assert len(calls) == MOST_CALLS + 1
    assert sum(call.points[101][0] for call in calls) == MOST_CALLS + 50


def test_columns_are_folded_and_written_from_the_first_asked_for() -> None:
    call = Call("/web", "/api", "http", "api", points={100: [1.0] * 7, 105: [2.0] * 7, 110: [4.0] * 7})
    assert folded(call.points, 10) == {10: [3.0] * 7, 11: [4.0] * 7}
    assert row(call, 11, 10)["points"] == [[0, 4, 4, 4, 4, 4, 4, 4]]
    assert row(call, 100)["edge"] == call.id
    assert "histogram" not in row(call, 100)
