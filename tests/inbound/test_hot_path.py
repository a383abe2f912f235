"""What a request on warm connections costs, in kind: callbacks, and nothing that is dear.

The peers talk from a thread, so that whatever steps, raises or is armed in trio's thread is the sidecar's.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Terms
from meshproxy.http.trace_context import Sampling
from meshproxy.inbound.ledger import Ledger
from meshproxy.inbound.story import Story
from meshproxy.inbound.visit import Visit as Arrival
from meshproxy.outbound.requests import grant_all
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.epoll_readiness import EpollReadiness
from tests.hearing import listening_log
from tests.http.screenplay import LIMITS
from tests.inbound.test_authorize import LIST, Court

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from _typeshed import TraceFunction

    from meshproxy.http.terms import Judge
    from meshproxy.telemetry.access import AccessLine
    from meshproxy.wire.readiness import Readiness
    from tests.inbound.conftest import House, Peer

GET = b"GET /docs/a?x=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n", b"\r\n\r\n"
POST = b"POST /docs/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", b"hello"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"

TIMES = 100


class Costs(trio.abc.Instrument):
    """Counts what is dear in trio's thread while it is watched."""

    def __init__(self, engine: EpollReadiness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: Counter[str] = Counter()
        self.raised: list[str] = []
        self.armed: Counter[str] = Counter()
        for name in ("watch", "forget", "arm_write", "disarm_write", "resume"):
            monkeypatch.setattr(engine, name, self._counting(name, getattr(engine, name)))

    def _counting(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: object) -> None:
            self.armed[name] += 1
            call(*arguments)

        return counted

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[task.name] += 1

    def _trace(self, frame: FrameType, event: str, argument: Any) -> TraceFunction | None:
        if "meshproxy" not in frame.f_code.co_filename.rpartition("tests")[2]:
            return None
        frame.f_trace_lines = False
        if event == "exception" and argument[0] not in {StopIteration, GeneratorExit}:  # an `await`, a generator ends
            self.raised.append(f"{frame.f_code.co_qualname}: {argument}")
        return self._trace

    @contextmanager
    def watched(self) -> Iterator[None]:
        for counter in (self.steps, self.armed):
            counter.clear()
        trio.lowlevel.add_instrument(self)
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(None)
            trio.lowlevel.remove_instrument(self)


class Telling:
    """A real story on a real recorder, kept."""

    def __init__(self, direction: str, engine: Readiness) -> None:
        self.log, self.heard = listening_log()
        self.lines: list[AccessLine] = []
        recorder = Recorder(Metrics(), self.log, self.lines.append, trio.current_time)
        self.story = Story(Arrival("api", direction, "10.0.0.9:1"), Ledger("api", recorder, engine.afterwards))


def say(peer: Peer, data: bytes) -> None:
    if peer.tls is not None:
        peer.tls.session.write(data)
        data = peer.tls.outgoing.read()
    peer.sock.sendall(data)


def hear(peer: Peer, end: bytes) -> None:
    room, heard = memoryview(bytearray(65536)), b""
    while not heard.endswith(end):
        data = peer.sock.recv(65536)
        assert data
        if peer.tls is not None:
            peer.tls.incoming.write(data)
            data = bytes(room[: peer.tls.read_into(room)])
        heard += data


def converse(caller: Peer, line: Peer, asked: bytes, asked_ends: bytes, times: int) -> None:
    """In a thread of its own."""
    for peer in (caller, line):
        peer.sock.settimeout(10)
    for _ in range(times):
        say(caller, asked)
        hear(line, asked_ends)
        say(line, OK)
        hear(caller, b"hi")
    for peer in (caller, line):
        peer.sock.setblocking(False)


@pytest.mark.parametrize("engine", [EpollReadiness], ids=["epoll"], indirect=True)
@pytest.mark.parametrize("said", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize("sampling", [None, Sampling.of(0.5)], ids=["untraced", "traced"])
async def test_a_request_on_warm_connections_wakes_no_task_raises_nothing_and_arms_nothing(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
    said: tuple[bytes, bytes],
    sampling: Sampling | None,
) -> None:
    asked, ends = said
    house.far_tls = direction == "outbound"
    court = Court(LIST.replace('methods = "GET"', 'methods = ["GET", "POST"]'))
    judge: Judge = grant_all if house.far_tls else court.judge
    telling = Telling(direction, house.engine)
    relay = HttpRelay(Terms(LIMITS, judge, random.Random(1), sampling=sampling), 0.0)
    caller, visit = await house.caller(relay=relay, teller=telling.story)
    await caller.says(asked)
    line = await house.line()
    await line.hears(ends)
    await line.says(OK)
    await caller.hears(b"hi")
    await trio.testing.wait_all_tasks_blocked()

    assert isinstance(house.engine, EpollReadiness)
    costs = Costs(house.engine, monkeypatch)
    with costs.watched():
        await trio.to_thread.run_sync(converse, caller, line, asked, ends, TIMES)
    assert costs.raised == []
    assert costs.armed == {}
    # The sweeper, four times a second, and who waits for the thread.
    assert not [name for name in costs.steps if "readiness" in name or name.endswith("Visit.run")], costs.steps
    assert sum(costs.steps.values()) < TIMES / 2, costs.steps
    assert telling.heard.names == court.heard.names == []
    assert len(telling.lines) == 1 + TIMES
    assert house.dialled == 1
    assert visit.error is None
