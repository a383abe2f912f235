"""No memory is left (RLIMIT_AS; a control group does the like): who asks for more is cut, and the sidecar lives.

Mostly the process that meets it goes on. Where the interpreter itself, or trio, finds no memory it ends, and the
supervisor puts another in its place: so there are two workers here. When the greedy ones are gone all are served.
"""

from __future__ import annotations

import contextlib
import gc
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context, send_pattern
from tests.scenarios.http_actors import Origin, mtls_caller, ok, request
from tests.scenarios.stage import inbound, poll

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
# CPython 3.11 forgets a socket that was reset between connect and wrap_socket.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
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
    tables = "[runtime]\nworkers = 2\n" + inbound(forward=origin.address, protocol="http", more='body_min_rate = "0B"')
    api, web = stage.sidecar("api", tables), client_context(stage.identity("/web"))
    poll(lambda: all(each.state == "serving" for each in api.status().workers), "both workers serve")
    api.forgiven = frozenset({"MemoryError", "Cannot allocate memory", "can't start new thread"})
    with mtls_caller(api, web) as caller:
        assert caller.ask("GET", "/before").status == 200
    pids = set(api.serving)
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
        with contextlib.suppress(ProcessLookupError):  # its successor has no such limit
            resource.prlimit(pid, resource.RLIMIT_AS, before[pid])
    poll(lambda: api.status().state == "serving", "it says so", within=60)
    poll(lambda: all(each.state == "serving" for each in api.status().workers), "both places are filled", within=60)
    print(f"{len(pids - set(api.serving))} of 2 workers were replaced")
    for _ in range(10):
        with mtls_caller(api, web) as caller:
            assert caller.ask("POST", "/after", body=b"x").status == 200
    api.log.unreadable.clear()  # a process that ends of it says so in the words of the interpreter
    gc.collect()  # so that what is said of them is said here


def _is_served(api: Sidecar, context: ssl.SSLContext) -> bool:
    try:
        with mtls_caller(api, context) as caller:
            caller.sock.settimeout(5)
            return caller.ask("GET", "/fine").status == 200
    except OSError:
        return False
