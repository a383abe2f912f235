"""The judge of a caller's requests looks at the caller's certificate each time, by the wall clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from ca.spiffe_id import SpiffeId, TrustDomain
from ca.svid import Leaf
from meshproxy.http.codec import RequestReader
from meshproxy.http.head import HeadLimits, RequestHead
from meshproxy.http.terms import Grant, Refusal
from meshproxy.inbound.accept import Visit
from meshproxy.inbound.authorize import Authorizer
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.document import parse_allow_list
from meshproxy.settings.schema import Inbound, Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.address import TcpAddress
from tests.hearing import listening_log


def a_request() -> RequestHead:
    reader = RequestReader(HeadLimits())
    reader.feed(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize(("later", "kind"), [(timedelta(0), Grant), (timedelta(seconds=1), Refusal)])
async def test_a_caller_whose_certificate_has_run_out_is_refused(later: timedelta, kind: type) -> None:
    """Deadlines run on a clock that stands still in a suspended machine."""
    until = datetime(2026, 11, 1, tzinfo=UTC)
    home = TrustDomain("mesh.test")
    leaf = Leaf(SpiffeId(home, "/web"), 1, "00", until - timedelta(days=1), until)
    here = TcpAddress("127.0.0.1", 0)
    settings = Inbound("api", here, here, Protocol.HTTP, Path("x.allow.toml"))
    policy = Snapshot(compile_policy(parse_allow_list(b'[[allow]]\nfrom = "/web"\n', file="x.allow.toml")))
    log, _ = listening_log()
    recorder = Recorder(Metrics(), log, lambda _line: None, trio.current_time)
    visit = Visit("api", "inbound", "127.0.0.1:1")
    judge = Authorizer(settings, policy, recorder).judge_of(visit, leaf, home=home, wall=lambda: until + later)
    assert isinstance(judge(a_request()), kind)
