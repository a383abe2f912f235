"""Without a free descriptor accepting pauses and says what to do; who is connected is served, who waits is later."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, dial, echo, exchange
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

ROOM = 8  # descriptors left to each of its processes: four connections


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux changes the limits of a running process")
def test_running_out_of_descriptors_pauses_and_recovers(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    poll(lambda: web.status().listeners[0].open == 0, "all descriptors returned")
    serving = web.serving
    for pid in serving:
        taken = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + ROOM, taken + ROOM))

    with contextlib.ExitStack() as held:
        served = held.enter_context(dial(web.address("to-api")))
        served.sendall(b"hello")
        assert served.recv(5) == b"hello"
        waiting = [held.enter_context(dial(web.address("to-api"))) for _ in range(ROOM * len(serving))]
        paused = web.log.event("accepting_paused", listener="to-api")
        assert "ulimit -n" in paused.text("remedy")
        served.sendall(b"still")
        assert served.recv(5) == b"still"
        assert web.get("/live").status == 200  # a health check has its own
        assert len(web.log.seen("accepting_paused", listener="to-api")) <= 2 * len(serving)  # one per second each
        for caller in waiting:
            caller.close()

    poll(lambda: web.status().listeners[0].open == 0, "all gone")
    assert exchange(web.address("to-api"), b"again") == b"again"
