"""/series, /topology and a tick: the documented shapes, of what really happened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshproxy.admin.picture import series_in_parts, tick
from meshproxy.admin.topology import Traffic, topology
from meshproxy.telemetry.bounds import BUCKETS
from meshproxy.telemetry.flows import Edge, Point
from meshproxy.telemetry.rings import TIERS
from meshproxy.telemetry.series import Marker, Series

NOW = 1_800_000_000.0
WEB = Edge("destination", "/web", "/api", "api", "http")
PARTNER = Edge("destination", "spiffe://partner.test/shop", "/api", "api", "http")
LEDGER = Edge("source", "/api", "/ledger", "to-ledger", "tcp")
FAST = (9, 0, 0, 0, 0, 0, 0, 0, 0, 1, *[0] * 5)


def point(**counts: int) -> Point:
    return Point(**{"requests": 10, "micros": 1_250_000, "bytes_in": 30, "bytes_out": 70, **counts}, histogram=FAST)


@pytest.fixture
def series() -> Series:
    series = Series(NOW)
    series.mark(Marker(NOW, "start", "started"))
    series.take(NOW + 1, [(WEB, point(errors=1, denied=2, opened=3))])
    series.take(NOW + 3, [(WEB, point()), (LEDGER, point())])
    return series


def told(series: Series, tier: str, since: float | None = None, edge: str | None = None) -> dict[str, Any]:
    parts = list(series_in_parts(series, TIERS[tier], since=since, edge=edge))
    answer: dict[str, Any] = json.loads(b"".join(parts))
    return answer


def test_series_has_a_sparse_row_for_each_edge(series: Series) -> None:
    answer = told(series, "1s", since=NOW)
    assert [marker["kind"] for marker in answer.pop("markers")] == ["start"]
    web, ledger = answer.pop("edges")
    assert answer == {"now": NOW + 3, "tier": "1s", "step": 1.0, "start": NOW, "columns": 3}
    assert web == {
        "edge": "e1",
        "reporter": "destination",
        "source": "/web",
        "target": "/api",
        "listener": "api",
        "protocol": "http",
        "mtls": True,
        "points": [[0, 10, 1, 2, 30, 70, 1.25, 3], [2, 10, 0, 0, 30, 70, 1.25, 0]],
    }
    assert (ledger["edge"], ledger["protocol"], [row[0] for row in ledger["points"]]) == ("e2", "tcp", [2])


def test_the_coarse_tiers_have_histograms(series: Series) -> None:
    answer = told(series, "10s")
    assert (answer["columns"], answer["start"]) == (2160, NOW - 2159 * 10)
    [web, _] = answer["edges"]
    assert web["points"] == [[2159, 20, 1, 2, 60, 140, 2.5, 3]]
    assert web["histogram"] == [[2159, [2 * count for count in FAST]]]


def test_series_of_one_edge_and_of_a_time_in_which_nothing_happened(series: Series) -> None:
    assert [edge["edge"] for edge in told(series, "1s", edge="e2")["edges"]] == ["e2"]
    series.take(NOW + 60, [])
    assert told(series, "1s", since=NOW + 50)["edges"] == []


def test_what_happens_while_an_answer_is_read_slowly_is_not_in_it(series: Series) -> None:
    """Whoever gathers sidecars believes none that counts columns beyond those it has announced."""
    parts = series_in_parts(series, TIERS["1s"], since=NOW, edge=None)
    head = next(parts)
    series.take(NOW + 4, [(WEB, point()), (LEDGER, point())])
    answer = json.loads(b"".join([head, *parts]))
    assert answer["columns"] == 3
    assert [[row[0] for row in edge["points"]] for edge in answer["edges"]] == [[0, 2], [2]]


def test_a_tick_tells_the_second_itself(series: Series) -> None:
    found = series.take(NOW + 4.002, [(WEB, point())])
    news = json.loads(tick(NOW + 4.002, found.items(), {"open_connections": 2.0}))
    [edge] = news.pop("edges")
    assert news == {"now": NOW + 4.002, "gauges": {"open_connections": 2.0}}
    assert edge["point"] == [NOW + 3, 10, 0, 0, 30, 70, 1.25, 0]
    assert edge["histogram"] == list(FAST)
    assert len(FAST) == BUCKETS


def graph(*found: Traffic, idle: tuple[tuple[Edge, str], ...] = ()) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(topology(found, now=NOW, window=60, idle=idle, trust_domain="mesh.test"))
    return answer


def test_topology_is_in_kialis_shape_with_numbers_of_our_own() -> None:
    answer = graph(Traffic("e1", WEB, point(errors=1, denied=2), 60.0), Traffic("e2", LEDGER, point(), 60.0))
    assert (answer["timestamp"], answer["duration"], answer["graphType"]) == (int(NOW), 60, "workload")
    nodes = {node["data"]["id"]: node["data"] for node in answer["elements"]["nodes"]}
    assert set(nodes) == {"/web", "/api", "/ledger"}
    assert nodes["/web"]["isRoot"]
    assert "isRoot" not in nodes["/api"]
    assert (nodes["/api"]["workload"], nodes["/api"]["namespace"]) == ("api", "mesh.test")
    ledger, web = (edge["data"] for edge in answer["elements"]["edges"])
    assert (web["source"], web["target"], web["sourcePrincipal"]) == ("/web", "/api", "spiffe://mesh.test/web")
    assert (web["isMTLS"], web["healthStatus"], web["responseTime"]) == ("100", "Failure", "125.00")
    assert web["traffic"]["rates"] == {
        "http": "0.2",
        "httpPercentErr": "10.00",
        "http5xx": "0.01667",
        "http4xx": "0.03333",
    }
    assert web["mesh"] == {
        "edge": "e1",
        "reporter": "destination",
        "listener": "api",
        "protocol": "http",
        "mtls": True,
        "idle": False,
        "rate": 0.166667,
        "errors": 0.1,
        "denied": 0.033333,
        "bytes_in": 0.5,
        "bytes_out": 1.166667,
        "p50": 0.002778,
        "p95": 0.875,
        "p99": 0.975,
    }
    assert ledger["traffic"]["protocol"] == "tcp"


def test_idle_edges_are_those_that_were_not_used() -> None:
    unused = Edge("destination", "/batch", "/api", "api", "http")
    answer = graph(Traffic("e1", WEB, point(), 60.0), idle=((unused, "nightly"), (WEB, "web"), (unused, "again")))
    idle, used = (edge["data"] for edge in answer["elements"]["edges"][::-1])
    assert (used["mesh"]["idle"], idle["mesh"]["idle"]) == (False, True)
    assert (idle["source"], idle["mesh"]["rule"], idle["mesh"]["errors"]) == ("/batch", "again", None)
    assert {node["data"]["id"]: node["data"].get("isIdle") for node in answer["elements"]["nodes"]} == {
        "/api": None,
        "/batch": True,
        "/web": None,
    }


def test_who_is_of_another_trust_domain_is_outside() -> None:
    answer = graph(Traffic("e1", PARTNER, point(), 60.0))
    nodes = {node["data"]["id"]: node["data"] for node in answer["elements"]["nodes"]}
    shop = nodes["spiffe://partner.test/shop"]
    assert (shop["isOutside"], shop["namespace"], shop["workload"]) == (True, "partner.test", "shop")


def test_an_empty_graph_is_one() -> None:
    assert graph()["elements"] == {"nodes": [], "edges": []}
