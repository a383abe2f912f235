"""A connection on which nothing moves for `idle_timeout` is ended; one on which something moves is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

IDLE = 1.0


@pytest.mark.long
def test_idle_connection_is_ended(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more='idle_timeout = "1s"'))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as busy, dial(web.address("to-api")) as idle:
        idle.sendall(b"hello")
        assert idle.recv(5) == b"hello"
        idle.settimeout(0.1)
        began = time.monotonic()
        while time.monotonic() - began < 2 * IDLE:
            busy.sendall(b"tick")
            assert busy.recv(4) == b"tick"
            time.sleep(IDLE / 10)  # the pace of a busy caller
        idle.settimeout(5)
        assert read_to_end(idle) == (b"", Ended.RESET)
        busy.sendall(b"tock")
        assert busy.recv(4) == b"tock"

    line = api.log.connection(end="idle")
    assert line.detail == "nothing moved for 1 s"
    assert IDLE * 1000 <= line.duration_ms < 5 * IDLE * 1000
