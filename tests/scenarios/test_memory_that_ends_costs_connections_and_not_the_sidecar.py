"""No memory is left (RLIMIT_AS; a control group does the like): who asks for more is cut, and the sidecar lives.

When the greedy ones are gone everybody is served again, by the same process.
"""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context, send_pattern
from tests.scenarios.http_actors import Origin, http_api, mtls_caller, ok, request
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    import ssl

    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Sidecar, Stage

ROOM = 24 << 20  # bytes that every process may still ask for
GREEDY = 150
MUCH = 16 << 20


def virtual(pid: int) -> int:
    found = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.long
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux changes the limits of a running process")
def test_memory_that_ends(stage: Stage) -> None:
    def pour(talk: Talk, asked: Message) -> None:
        if asked.target != "/much":
            ok(talk, asked)
            return
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH)
        with contextlib.suppress(OSError):
            send_pattern(talk.sock, MUCH)

    origin = stage.keep(Origin(pour))
    api, web = http_api(stage, origin, more='body_min_rate = "0B"'), client_context(stage.identity("/web"))
    api.forgiven = frozenset({"MemoryError", "Cannot allocate memory", "can't start new thread"})
    with mtls_caller(api, web) as caller:
        assert caller.ask("GET", "/before").status == 200
    pids = api.pids
    before = {pid: resource.prlimit(pid, resource.RLIMIT_AS) for pid in pids}
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_AS, (virtual(pid) + ROOM, before[pid][1]))

    turned_away = 0
    with contextlib.ExitStack() as held:
        for _ in range(GREEDY):  # each asks for much and does not read it
            try:
                greedy = held.enter_context(mtls_caller(api, web))
                greedy.say(request("GET", "/much"))
            except OSError:
                turned_away += 1
        poll(lambda: api.process.poll() is None, "it lives")
        served = sum(_is_served(api, web) for _ in range(10))
        print(f"of {GREEDY} greedy ones {turned_away} were turned away, of 10 honest ones {served} were served")
    assert api.process.poll() is None
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_AS, before[pid])
    assert api.pids == pids
    poll(lambda: api.status().state == "serving", "it says so")
    for _ in range(10):
        with mtls_caller(api, web) as caller:
            assert caller.ask("POST", "/after", body=b"x").status == 200


def _is_served(api: Sidecar, context: ssl.SSLContext) -> bool:
    try:
        with mtls_caller(api, context) as caller:
            caller.sock.settimeout(5)
            return caller.ask("GET", "/fine").status == 200
    except OSError:
        return False
