"""When memory runs short what is new is refused, and says so; what has begun is served; and when there is some, all is.

The limit of the process (RLIMIT_AS) is set so that 96 % of it is used: beyond 95 % nothing new begins.
"""

from __future__ import annotations

import contextlib
import re
import resource
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context, dial
from tests.scenarios.http_actors import Origin, http_api, mtls_caller, ok, request
from tests.scenarios.stage import PATIENCE, poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

IN_FLIGHT = 64  # requests that are let in whatever happens
EXCESS = 36
USED = 0.96


def virtual(pid: int) -> int:
    found = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux changes the limits of a running process")
def test_short_of_memory(stage: Stage) -> None:
    go = threading.Event()

    def slow(talk: Talk, asked: Message) -> None:
        if asked.target == "/slow":
            assert go.wait(PATIENCE)
        ok(talk, asked)

    origin = stage.keep(Origin(slow))
    api = http_api(stage, origin)
    web = client_context(stage.identity("/web"))
    pids = api.serving
    before = {pid: resource.prlimit(pid, resource.RLIMIT_AS) for pid in pids}
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(mtls_caller(api, web)) for _ in range(IN_FLIGHT + EXCESS)]
        for caller in callers:
            assert caller.ask("GET", "/before").status == 200
        for caller in callers[:IN_FLIGHT]:
            caller.say(request("GET", "/slow"))
        poll(lambda: origin.targets().count("/slow") == IN_FLIGHT, "they have begun")
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_AS, (int(virtual(pid) / USED), before[pid][1]))
        told = api.log.event("overloaded", reason="memory")
        assert "memory limit" in told.text("remedy")
        ready = api.get("/ready")
        assert (ready.status, b"overloaded" in ready.body) == (503, True)

        # Who is connected already is refused in words, and keeps his connection; who is new is reset.
        for caller in callers[IN_FLIGHT:]:
            caller.say(request("GET", "/excess"))
        refused = [caller.hear() for caller in callers[IN_FLIGHT:]]
        assert Counter(answer.status for answer in refused) == {503: EXCESS}
        assert all(int(answer.value("retry-after")) >= 1 for answer in refused)
        with contextlib.suppress(ConnectionError), dial(api.address("api")) as newcomer:
            assert newcomer.recv(1) == b""
        go.set()
        assert [caller.hear().status for caller in callers[:IN_FLIGHT]] == [200] * IN_FLIGHT
        assert "/excess" not in origin.targets()

        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_AS, before[pid])
        api.log.event("overload_ended", reason="memory")
        poll(lambda: api.get("/ready").status == 200, "ready again")
        assert {caller.ask("GET", "/after").status for caller in callers} == {200}
    with mtls_caller(api, web) as caller:
        assert caller.ask("GET", "/new").status == 200
    assert set(api.serving) == set(pids)  # nobody died of it
    assert api.status().listeners[0].limits_reached["memory"] >= 1
