"""When nobody reads stderr and its pipe is full, the log waits; the traffic, and the end, do not."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, echo, exchange
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

CALLS = 60  # an access line has 400 bytes, and the pipe room for ten; reading ahead takes twenty more


@pytest.fixture
def unheard(stage: Stage) -> Sidecar:
    """A sidecar whose log nobody has read for sixty calls."""
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    api.shrink_pipe()
    api.hearing.clear()
    for _ in range(CALLS):
        assert exchange(web.address("to-api"), b"hello") == b"hello"
    poll(lambda: api.status().listeners[0].ended == {"clean": CALLS}, "all calls served")
    assert len(api.log.seen("connection")) < CALLS
    return api


def test_nothing_is_lost_when_reading_resumes_in_time(unheard: Sidecar) -> None:
    unheard.hearing.set()

    poll(lambda: len(unheard.log.seen("connection")) == CALLS, "every line comes, late")
    assert unheard.metric("meshproxy_log_lines_dropped") == 0


def test_it_ends_although_nobody_listens(unheard: Sidecar) -> None:
    unheard.signal(signal.SIGTERM)

    assert unheard.process.wait(10) == 0
    unheard.hearing.set()
