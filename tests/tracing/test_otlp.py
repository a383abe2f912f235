"""What is sent to a collector is what the official protobuf classes read."""

from __future__ import annotations

import json

from meshproxy.tracing.otlp import Kind, Span, write_batch, write_span
from tests.tracing.official import read_by_the_official_classes

SERVER = Span(
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    parent_id="00f067aa0ba902b7",
    name="GET web-reads",
    kind=Kind.SERVER,
    began=1_700_000_000_123_456_789,
    ended=1_700_000_000_223_456_789,
    attributes={"http.response.status_code": 503, "url.path": '/ä\u2028"', "yes": True, "error.type": "denied"},
    is_error=True,
    state="a=1,b=2",
    parent_is_remote=True,
)
CLIENT = Span("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b8", "", "GET api", Kind.CLIENT, 5, 4, {})


def test_a_batch_says_the_same_to_the_official_classes() -> None:
    batch = write_batch({"service.name": "web"}, [write_span(SERVER), write_span(CLIENT)])
    read = read_by_the_official_classes(batch)
    (of_resource,) = read.resource_spans
    assert [(a.key, a.value.string_value) for a in of_resource.resource.attributes] == [("service.name", "web")]
    (of_scope,) = of_resource.scope_spans
    assert of_scope.scope.name == "meshproxy"
    server, client = of_scope.spans
    assert server.trace_id.hex() == SERVER.trace_id
    assert (server.span_id.hex(), server.parent_span_id.hex()) == (SERVER.span_id, SERVER.parent_id)
    assert (server.name, server.kind, server.trace_state) == (SERVER.name, server.SPAN_KIND_SERVER, "a=1,b=2")
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (SERVER.began, SERVER.ended)
    assert server.status.code == server.status.STATUS_CODE_ERROR
    assert server.flags == 0x301
    told = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in server.attributes}
    assert told == SERVER.attributes
    assert (client.parent_span_id, client.kind, client.flags) == (b"", client.SPAN_KIND_CLIENT, 0x101)
    assert client.status.code == client.status.STATUS_CODE_UNSET
    assert client.end_time_unix_nano == client.start_time_unix_nano == 5  # never before it began


def test_it_is_written_as_the_specification_says() -> None:
    """Hexadecimal ids, numbers for enumerations, text for 64-bit numbers."""
    (of_resource,) = json.loads(write_batch({}, [write_span(SERVER)]))["resourceSpans"]
    (span,) = of_resource["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["parentSpanId"], span["kind"]) == (SERVER.trace_id, SERVER.parent_id, 2)
    assert span["startTimeUnixNano"] == "1700000000123456789"
    assert {"key": "http.response.status_code", "value": {"intValue": "503"}} in span["attributes"]
    assert {"key": "yes", "value": {"boolValue": True}} in span["attributes"]
    assert span["status"] == {"code": 2}
