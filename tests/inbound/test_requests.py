"""The access line of a request: every field tells what its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import pytest
import trio

from meshproxy.errors import Failure
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.exchange import Decided, Exchange
from meshproxy.http.head import RequestHead
from meshproxy.inbound.accept import Services, Visit
from meshproxy.inbound.requests import Story
from meshproxy.telemetry.access import RequestLine
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.upstream.pool import UpstreamConnection
from tests.hearing import listening_log
from tests.http.screenplay import LIMITS

if TYPE_CHECKING:
    from meshproxy.identity.store import IdentityStore
    from meshproxy.telemetry.access import AccessLine
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.dial import Resolver
    from meshproxy.wire.relay import Relay


def a_head() -> RequestHead:
    reader = RequestReader(LIMITS)
    reader.feed(b"GET /" + b"p" * 2000 + b"?secret HTTP/1.1\r\nHost: h\r\n\r\n")
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


class Told:
    def __init__(self) -> None:
        self.lines: list[AccessLine] = []
        self.metrics = Metrics()
        recorder = Recorder(self.metrics, listening_log()[0], self.lines.append, trio.current_time)
        nobody = cast("Relay", None), cast("Resolver", None), cast("IdentityStore", None)  # a story asks none of them
        self.visit = Visit("api", "inbound", "10.0.0.9:1", id="id-1", caller="spiffe://td/c")
        self.story = Story(self.visit, Services(*nobody, recorder))

    def tell(self, exchange: Exchange, upstream: UpstreamConnection | None) -> dict[str, object]:
        self.story.finished(exchange, upstream)
        line = self.lines.pop()
        assert isinstance(line, RequestLine)
        return msgspec.structs.asdict(line)


@pytest.fixture
async def told() -> Told:
    return Told()


def upstream() -> UpstreamConnection:
    return UpstreamConnection(cast("Channel", None), ResponseReader(LIMITS), "10.0.0.7:80", identity="spiffe://td/far")


async def test_every_field_of_a_line_tells_what_its_name_says(told: Told) -> None:
    exchange = Exchange(
        started=10.0,
        request_id=b"request-1",
        trace_id=b"trace-1",
        head=a_head(),
        decided=Decided("spiffe://td/c", "allow", "rule-1", "granted", "enforce", "api.allow.toml@3"),
        status=503,
        failure=Failure.LIMIT,
        detail="too much",
        upstream_asked=10.25,
        answered=10.5,
        ended=11.0000004,
        bytes_in=3,
        bytes_out=5,
        resent=True,
    )
    line = told.tell(exchange, upstream())
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "listener": "api",
        "direction": "inbound",
        "id": "id-1",
        "request_id": "request-1",
        "peer": "10.0.0.9:1",
        "method": "GET",
        "path": "/" + "p" * 1023,
        "status": 503,
        "caller": "spiffe://td/c",
        "decision": "allow",
        "rule": "rule-1",
        "reason": "granted",
        "mode": "enforce",
        "policy": "api.allow.toml@3",
        "upstream": "10.0.0.7:80",
        "upstream_id": "spiffe://td/far",
        "bytes_in": 3,
        "bytes_out": 5,
        "duration_ms": 1000.0,
        "answer_ms": 250.0,
        "trace_id": "trace-1",
        "failure": "limit",
        "detail": "too much",
        "resent": True,
        "end": "",
    }
    assert told.metrics.requests.labels("api", "5xx", "limit").value == 1


async def test_what_was_no_request_has_a_line_of_little(told: Told) -> None:
    """The upstream beside it is the one of the request before."""
    line = told.tell(Exchange(10.0, request_id=b"r", status=400, answered=10.1, ended=10.1234567), upstream())
    kept = {name: value for name, value in line.items() if value}
    assert set(kept) == {"ts", "listener", "direction", "id", "request_id", "peer", "caller", "status", "duration_ms"}
    assert kept["duration_ms"] == 123.457
