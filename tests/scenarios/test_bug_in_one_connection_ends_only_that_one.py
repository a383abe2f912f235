"""A bug that one connection or one request meets ends that one; all others are served, and the log says what it was.

The bugs are put into a real sidecar: it is started by a script that replaces functions of ours before it calls main.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, tls_exchange, underneath
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import Sidecar, inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

BUG = "a bug that was made on purpose"

# `judge` is asked per request, out of a callback of the engine; `ask` per connection, in its own task.
BUGGY = f"""
from meshproxy.inbound import authorize
from meshproxy.cli.main import main

real_judge, real_ask = authorize._CallersJudge.judge, authorize.Authorizer.ask

def judge(self, head, request_id):
    if "/bug" in str(head):
        raise RuntimeError({BUG!r})
    return real_judge(self, head, request_id)

def ask(self, visit, leaf, **kwargs):
    if leaf.id.path == "/bug":
        raise RuntimeError({BUG!r})
    return real_ask(self, visit, leaf, **kwargs)

authorize._CallersJudge.judge, authorize.Authorizer.ask = judge, ask
main()
"""
TIMES = 20


@pytest.fixture
def api(stage: Stage) -> Sidecar:
    """A sidecar that stumbles over whatever is called /bug."""
    stage.write("all.allow.toml", '[[allow]]\nfrom = "/**"\n')
    origin, tunnelled = stage.keep(Origin()), stage.keep(Service(echo))
    tables = inbound(forward=origin.address, protocol="http", policy="all.allow.toml")
    tables += inbound("tunnel", forward=tunnelled.address, policy="all.allow.toml")
    file, script = stage.configure("api", tables), stage.write("buggy.py", BUGGY)
    process = subprocess.Popen([sys.executable, script, "run", file], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    api = stage.look_after(Sidecar(file, process=process))
    api.forgiven = frozenset({BUG})
    return api


def test_a_request_that_meets_a_bug_ends_its_connection_only(stage: Stage, api: Sidecar) -> None:
    web = client_context(stage.identity("/web"))
    with mtls_caller(api, web) as neighbour:
        assert neighbour.ask("GET", "/before").status == 200
        tasks = api.metric("meshproxy_tasks")
        for number in range(TIMES):
            with mtls_caller(api, web) as unlucky:
                assert unlucky.ask("GET", "/fine").status == 200
                with pytest.raises(ConnectionError):
                    unlucky.ask("GET", f"/bug/{number}")
            assert neighbour.ask("POST", f"/beside/{number}", body=b"x").status == 200
        told = api.log.event("internal_error")
        assert BUG in str(told)
        assert told["listener"] == "api"
        poll(lambda: api.metric("meshproxy_tasks") <= tasks, "nothing of them is left")
    assert api.get("/ready").status == 200


def test_a_connection_that_meets_a_bug_ends_only_itself(stage: Stage, api: Sidecar) -> None:
    web, unlucky = client_context(stage.identity("/web")), client_context(stage.identity("/bug"))
    with tls_dial(api.address("tunnel"), web) as neighbour:
        for _ in range(TIMES):
            with tls_dial(api.address("tunnel"), unlucky) as sock:
                assert underneath(sock) == (b"", Ended.RESET)
            neighbour.sendall(b"still")
            assert neighbour.recv(5) == b"still"
        assert tls_exchange(api.address("tunnel"), web, b"hello") == b"hello"
        line = api.log.connection(end="failed")
        assert (line.caller, line.detail) in {("spiffe://mesh.test/bug", "internal error"), ("", "internal error")}
        poll(lambda: api.status().listeners[1].open == 1, "only the neighbour is left")
