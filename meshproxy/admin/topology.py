"""Who calls whom, in the shape in which Kiali draws a graph; pure.

That shape (kiali, `graph/config/cytoscape`) has its numbers as strings. Beside those fields each edge has a `mesh` of
its own, in numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.telemetry.flows import Edge, Point
from meshproxy.telemetry.quantiles import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from meshproxy.admin.questions import Query

# Kiali's own defaults (kiali.io, health configuration): a share of errors from which an edge is degraded, or failing.
_DEGRADED: Final = 0.001
_FAILING: Final = 0.10

LONGEST_WINDOW: Final = 172_800.0  # seconds, two days: what is remembered
_WINDOW: Final = 600.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened at one edge, in so many seconds."""

    id: str
    edge: Edge
    point: Point
    seconds: float

    def rate(self, count: int) -> float:
        """Return a count as one per second."""
        return round(count / self.seconds, 6)


@dataclass(slots=True)
class _Node:
    name: str
    protocol: str = "http"
    rate_in: float = 0.0
    errors_in: float = 0.0
    rate_out: float = 0.0
    is_root: bool = True
    is_idle: bool = True
    targets: list[str] = field(default_factory=list)


def window_asked(query: Query) -> tuple[float, bool]:
    """Take from a question about the graph how many seconds it is to cover, and whether idle edges too."""
    window = query.number("window", _WINDOW, least=1, most=LONGEST_WINDOW) or _WINDOW
    wants_idle = query.flag("idle")
    query.done()
    return window, wants_idle


def topology(
    found: Iterable[Traffic],
    *,
    now: float,
    window: float,
    idle: Sequence[tuple[Edge, str]] = (),
    trust_domain: str = "",
) -> bytes:
    """Return the graph of what was called in the last `window` seconds.

    `idle` are edges that allow-lists grant, with the rule that does; those that were used stand among `found`.
    """
    traffic = sorted(found, key=lambda each: (each.edge.source, each.edge.target, each.edge.listener, each.id))
    used = {(each.edge.source, each.edge.target, each.edge.listener) for each in traffic}
    nodes: dict[str, _Node] = {}
    edges: list[dict[str, object]] = []
    for each in traffic:
        _count(nodes, each)
        edges.append({"data": _edge(each, trust_domain)})
    for number, (edge, rule) in enumerate(sorted(idle, key=lambda item: (item[0].source, item[0].target, item[1])), 1):
        if (edge.source, edge.target, edge.listener) in used:
            continue
        used.add((edge.source, edge.target, edge.listener))
        nodes.setdefault(edge.source, _Node(edge.source))
        nodes.setdefault(edge.target, _Node(edge.target)).is_root = False
        unused = Traffic(f"idle-{number}", edge, Point(), window)
        edges.append({"data": _edge(unused, trust_domain, rule=rule)})
    answer = {
        "timestamp": int(now),
        "duration": int(window),
        "graphType": "workload",
        "elements": {
            "nodes": [{"data": _node(nodes[name], trust_domain)} for name in sorted(nodes)],
            "edges": edges,
        },
    }
    return msgspec.json.encode(answer) + b"\n"


def _count(nodes: dict[str, _Node], each: Traffic) -> None:
    source = nodes.setdefault(each.edge.source, _Node(each.edge.source))
    target = nodes.setdefault(each.edge.target, _Node(each.edge.target))
    target.is_root = source.is_idle = target.is_idle = False
    source.rate_out += each.rate(each.point.requests)
    source.targets.append(each.edge.target)
    target.rate_in += each.rate(each.point.requests)
    target.errors_in += each.rate(each.point.errors)
    source.protocol = target.protocol = each.edge.protocol


def _node(node: _Node, trust_domain: str) -> dict[str, object]:
    domain, slash, path = node.name.removeprefix("spiffe://").partition("/") if node.name[:1] != "/" else ("", "", "")
    name = path if slash else node.name.removeprefix("/")
    rates = {f"{node.protocol}In": _text(node.rate_in), f"{node.protocol}Out": _text(node.rate_out)}
    if node.protocol == "http" and node.errors_in:
        rates["httpIn5xx"] = _text(node.errors_in)
    data: dict[str, object] = {
        "id": node.name,
        "nodeType": "unknown" if node.name.startswith("(") else "workload",
        "cluster": trust_domain or "unknown",
        "namespace": domain or trust_domain or "unknown",
        "workload": name,
        "app": name,
        "traffic": [{"protocol": node.protocol, "rates": rates}],
    }
    flags = {"isRoot": node.is_root, "isIdle": node.is_idle, "isOutside": bool(domain)}
    return data | {name: True for name, is_so in flags.items() if is_so}


def _edge(each: Traffic, trust_domain: str, *, rule: str = "") -> dict[str, object]:
    edge, point = each.edge, each.point
    share = point.errors / point.requests if point.requests else 0.0
    mesh: dict[str, object] = {
        "edge": each.id,
        "reporter": edge.reporter,
        "listener": edge.listener,
        "protocol": edge.protocol,
        "mtls": edge.mtls,
        "idle": point == Point(),
        "rate": each.rate(point.requests),
        "errors": round(share, 6) if point.requests else None,
        "denied": each.rate(point.denied),
        "bytes_in": each.rate(point.bytes_in),
        "bytes_out": each.rate(point.bytes_out),
        "p50": _rounded(quantile(0.50, point.histogram)),
        "p95": _rounded(quantile(0.95, point.histogram)),
        "p99": _rounded(quantile(0.99, point.histogram)),
    }
    if rule:
        mesh["rule"] = rule
    mean = point.micros / point.requests / 1000 if point.requests else 0.0
    return {
        "id": each.id,
        "source": edge.source,
        "target": edge.target,
        "sourcePrincipal": _principal(edge.source, trust_domain),
        "destPrincipal": _principal(edge.target, trust_domain),
        "healthStatus": "Failure" if share >= _FAILING else "Degraded" if share >= _DEGRADED else "Healthy",
        "isMTLS": "100" if edge.mtls else "0",
        "responseTime": _text(mean),
        "throughput": _text(each.rate(point.bytes_out)),
        "traffic": _traffic(each, share),
        "mesh": mesh,
    }


def _principal(name: str, trust_domain: str) -> str:
    return f"spiffe://{trust_domain}{name}" if name.startswith("/") and trust_domain else name


def _traffic(each: Traffic, share: float) -> Mapping[str, object]:
    rate, errors, denied = each.rate(each.point.requests), each.rate(each.point.errors), each.rate(each.point.denied)
    if each.edge.protocol != "http":
        return {"protocol": "tcp", "rates": {"tcp": _text(each.rate(each.point.bytes_in + each.point.bytes_out))}}
    rates = {"http": _text(rate + denied), "httpPercentErr": _text(share * 100)}
    if errors:
        rates["http5xx"] = _text(errors)
    if denied:
        rates["http4xx"] = _text(denied)
    return {"protocol": "http", "rates": rates}


def _text(number: float) -> str:
    return f"{number:.2f}" if number >= 1 or not number else f"{number:.4g}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
