"""One trace tells of a request all the way: application, its sidecar, the far sidecar, the far application."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import dial
from tests.scenarios.collecting import Collector, tracing
from tests.scenarios.http_actors import Caller, Origin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import Stage, ask, inbound, outbound, poll
from tests.tracing.official import read_by_the_official_classes

if TYPE_CHECKING:
    from tests.scenarios.collecting import Seen
    from tests.scenarios.stage import Sidecar

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = 2, 3


def pair(stage: Stage, origin: Origin, *, table: str, api_table: str | None = None) -> tuple[Sidecar, Sidecar]:
    api = stage.sidecar(
        "api", (table if api_table is None else api_table) + inbound(forward=origin.address, protocol="http")
    )
    web = stage.sidecar("web", table + outbound(endpoints=[api.address("api")], protocol="http"))
    return api, web


def calling(web: Sidecar) -> Caller:
    return Caller(dial(web.address("to-api")))


def chain(spans: list[Seen]) -> list[Seen]:
    """Each the child of the one before; fails if they do not join up."""
    first, *rest = spans
    found = [first]
    while rest:
        (child,) = [span for span in rest if span.parent_id == found[-1].span_id]
        rest.remove(child)
        found.append(child)
    return found


def test_traces_join_up_from_application_to_application(stage: Stage) -> None:
    origin, collector = stage.keep(Origin()), stage.keep(Collector())
    api, web = pair(stage, origin, table=tracing(collector.address))
    with calling(web) as caller:
        # The first request of a connection, and one that takes the short way of those that follow.
        for number in range(3):
            asked = f"traceparent: 00-{TRACE_ID}-{SPAN_ID[:-1]}{number}-01"
            assert caller.ask("GET", f"/orders/{number}?token=secret", asked, "tracestate: a=1").status == 200
    spans = collector.spans(12)
    for number in range(3):
        ours = [span for span in spans if span.attributes.get("url.path") == f"/orders/{number}"]
        ours += [span for span in spans if span.attributes.get("url.full", "").endswith(f"/orders/{number}")]
        (head,) = [span for span in ours if span.parent_id == f"{SPAN_ID[:-1]}{number}"]
        joined = chain([head, *(span for span in ours if span is not head)])
        assert [(span.service, span.kind, span.name) for span in joined] == [
            ("web", SERVER, "GET to-api"),
            ("web", CLIENT, "GET to-api"),
            ("api", SERVER, "GET web-calls"),
            ("api", CLIENT, "GET api"),
        ]
        assert {span.trace_id for span in joined} == {TRACE_ID}
        for outer, inner in pairwise(joined):
            assert outer.began <= inner.began + 1_000_000
            assert inner.ended <= outer.ended + 1_000_000
        asked_of_service = origin.requests[number]
        assert asked_of_service.value("traceparent") == f"00-{TRACE_ID}-{joined[-1].span_id}-01"
        assert asked_of_service.value("tracestate") == "a=1"
        assert joined[2].attributes["meshproxy.caller"].endswith("/web")
        # The access lines lead there, and to each other.
        for sidecar, span in ((web, joined[0]), (api, joined[2])):
            line = sidecar.log.request(span_id=span.span_id)
            assert (line.trace_id, line.request_id) == (TRACE_ID, span.attributes["meshproxy.request_id"])
    assert set(collector.paths) == {"/v1/traces"}
    assert b"secret" not in b"".join(collector.bodies)
    # An exemplar leads from the histogram to the trace.
    text = ask(api.admin, "/metrics", accept="application/openmetrics-text; version=1.0.0").body.decode()
    assert re.search(rf'_bucket{{.*}} [0-9.]+ # {{trace_id="{TRACE_ID}"}} ', text)
    poll(lambda: api.metric("meshproxy_trace_spans_total", result="sent") == 6, "all of api's counted")
    for body in collector.bodies:
        read_by_the_official_classes(body)


def test_what_is_not_sampled_makes_no_span(stage: Stage) -> None:
    origin, collector = stage.keep(Origin()), stage.keep(Collector())
    _, web = pair(stage, origin, table=tracing(collector.address, sample=0.0))
    with calling(web) as caller:
        assert caller.ask("GET", "/a").status == 200
        assert caller.ask("GET", "/b", f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-00").status == 200
        assert caller.ask("GET", "/c", f"b3: {TRACE_ID}-{SPAN_ID}-1").status == 200
    begun, came, of_zipkin = (request.value("traceparent") for request in origin.requests)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", begun)
    assert came == f"00-{TRACE_ID}-{SPAN_ID}-00"
    spans = collector.spans(4)  # of the last one only
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert of_zipkin == f"00-{TRACE_ID}-{chain(spans)[-1].span_id}-01"


@pytest.mark.long
def test_spans_go_to_a_collector_in_the_mesh(stage: Stage) -> None:
    """Over mutual TLS to an identity; and through an outbound listener of the sidecar's own, without end."""
    origin, collector = stage.keep(Origin()), stage.keep(Collector())
    stage.write("spans.allow.toml", '[[allow]]\nfrom = ["/web", "/api"]\nmethods = "POST"\npaths = "/v1/traces"\n')
    gate = stage.sidecar(
        "collector", inbound("spans", forward=collector.address, protocol="http", policy="spans.allow.toml")
    )
    mesh = tracing(gate.address("spans"), scheme="https", more='to = "/collector"')
    api = stage.sidecar("api", mesh + inbound(forward=origin.address, protocol="http"))
    own = f"127.0.0.1:{free_port()}"
    web = stage.sidecar(
        "web",
        tracing(own)
        + outbound(endpoints=[api.address("api")], protocol="http")
        + outbound("to-spans", endpoints=[gate.address("spans")], to="/collector", protocol="http").replace(
            "127.0.0.1:0", own
        ),
    )
    with calling(web) as caller:
        assert caller.ask("GET", "/a").status == 200
    spans = collector.spans(4)
    assert {span.service for span in spans} == {"web", "api"}
    assert len({span.trace_id for span in spans}) == 1
    line = gate.log.request(method="POST", path="/v1/traces", decision="allow", caller="spiffe://mesh.test/web")
    assert line.status == 200
    gate.log.request(method="POST", path="/v1/traces", decision="allow", caller="spiffe://mesh.test/api")
    # Sending spans makes no spans.
    web.log.request(listener="to-spans")
    assert len(collector.spans(4)) == 4


@pytest.mark.long
def test_a_collector_that_is_not_there_changes_nothing_for_traffic(stage: Stage) -> None:
    origin, collector = stage.keep(Origin()), Collector()
    _, web = pair(stage, origin, table=tracing(collector.address), api_table="")
    collector.refusals = [503]
    with calling(web) as caller:
        assert caller.ask("GET", "/a").status == 200
        stage.keep(collector)  # it listens, and answers from here on
        spans = collector.spans(2)
    assert {span.service for span in spans} == {"web"}
    assert web.log.event("traces_not_sent")["level"] == "warning"
    web.log.event("traces_sent_again")
