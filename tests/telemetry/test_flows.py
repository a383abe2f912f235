"""What is counted at an edge is what is taken off, once; and there is a bound to edges."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.bounds import BOUNDS, bucket_of
from meshproxy.telemetry.flows import NOBODY, OTHER, Edge, Flow, Flows, Point, short

EDGE = Edge("destination", "/web", "/api", "api", "http")


@dataclass
class Moved:
    to_tls: int = 0
    to_plain: int = 0
    refreshed: int = 0

    def refresh(self) -> None:
        self.refreshed += 1


def of_caller(number: int) -> Edge:
    return Edge("destination", f"/caller-{number}", "/api", "api", "http")


@given(st.floats(0, 20) | st.sampled_from(BOUNDS))
def test_a_time_is_in_the_bucket_of_the_first_bound_that_is_no_less(seconds: float) -> None:
    assert bucket_of(seconds) == sum(bound < seconds for bound in BOUNDS)


def test_what_happened_is_taken_off_once() -> None:
    flow = Flow(EDGE)
    flow.enter()
    flow.over(0.004, failed=False, bytes_in=3, bytes_out=5)
    flow.over(0.2, failed=True, bytes_in=0, bytes_out=7)
    flow.denied += 1
    histogram = tuple(1 if bucket in {0, 6} else 0 for bucket in range(15))
    assert flow.take() == Point(2, 1, 1, 3, 12, 204_000, 1, histogram)
    assert flow.take() is None
    flow.leave()
    assert flow.take() is None, "that one has gone is no news"


def test_whoever_has_looked_the_buckets_up_counts_in_them_for_ever() -> None:
    flow = Flow(EDGE)
    took, failed = flow.took, flow.took_failed
    flow.over(0.001, failed=False)
    flow.take()
    took[3] += 1
    failed[14] += 1
    point = flow.take()
    assert point is not None
    assert (point.requests, point.errors) == (2, 1)
    assert point.histogram[3] == point.histogram[14] == 1


@pytest.mark.parametrize(("inbound", "moved"), [(True, (20, 10)), (False, (10, 20))])
def test_the_bytes_of_a_stream_are_counted_while_they_move(
    inbound: bool,  # noqa: FBT001 - a row of the table
    moved: tuple[int, int],
) -> None:
    flow, traffic = Flow(EDGE), Moved(to_tls=10, to_plain=20)
    stream = flow.begin(traffic, inbound=inbound)
    first = flow.take()
    assert first is not None
    assert (first.requests, first.bytes_in, first.bytes_out) == (0, *moved)
    assert flow.take() is None
    traffic.to_plain += 1
    traffic.to_tls += 1
    flow.end(stream)
    flow.end(stream)
    last = flow.take()
    assert last is not None
    assert (last.bytes_in, last.bytes_out) == (1, 1)
    traffic.to_tls += 100
    assert flow.take() is None


def test_callers_beyond_the_bound_are_counted_together_for_each_listener() -> None:
    flows = Flows(most=3)
    kept = [flows.of(of_caller(number)) for number in range(3)]
    others = {flows.of(of_caller(number)) for number in range(3, 10_000)}
    assert len(others) == 1
    [other] = others
    assert other.edge == Edge("destination", OTHER, "/api", "api", "http")
    elsewhere = flows.of(Edge("destination", "/caller-5", "/api", "admin", "tcp"))
    assert (elsewhere.edge.source, elsewhere.edge.listener) == (OTHER, "admin")
    outbound = flows.of(Edge("source", "/api", "/caller-5", "out", "http"))
    assert (outbound.edge.source, outbound.edge.target) == ("/api", OTHER)
    assert [flows.of(of_caller(number)) for number in range(3)] == kept
    assert len(flows) == 6


def test_listeners_beyond_all_bounds_are_counted_at_the_edge_of_nobody() -> None:
    flows = Flows(most=1)
    for number in range(1000):
        flows.of(Edge("destination", "/web", "/api", f"listener-{number}", "http")).denied += 1
    assert len(flows) == 1 + 64
    taken = dict(flows.take())
    assert sum(point.denied for point in taken.values()) == 1000
    assert taken[NOBODY].denied == 1000 - 65


def test_a_flow_that_nobody_holds_is_let_go_after_a_minute_without_news() -> None:
    flows = Flows()
    held, left, busy = (flows.of(of_caller(number)) for number in range(3))
    for flow in (held, left):
        flow.enter()
    left.leave()
    assert len(flows.take()) == 2
    for _ in range(60):
        busy.denied += 1
        assert [edge.source for edge, _ in flows.take()] == ["/caller-2"]
    assert len(flows) == 2
    assert flows.of(held.edge) is held
    assert flows.of(left.edge) is not left


def test_what_is_counted_at_a_flow_that_is_held_is_never_lost() -> None:
    flows = Flows()
    flow = flows.of(EDGE)
    flow.enter()
    for _ in range(200):
        flows.take()
    flow.denied += 1
    assert flows.take() == [(EDGE, Point(denied=1))]


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("spiffe://mesh.test/web", "/web"),
        ("spiffe://mesh.test/a/b", "/a/b"),
        ("spiffe://mesh.test.evil/web", "spiffe://mesh.test.evil/web"),
        ("spiffe://partner.test/web", "spiffe://partner.test/web"),
        ("/batch/*", "/batch/*"),
    ],
)
def test_names_are_paths_at_home_and_whole_elsewhere(identity: str, name: str) -> None:
    assert short(identity, "mesh.test") == name
