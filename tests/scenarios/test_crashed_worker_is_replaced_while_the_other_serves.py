"""One of two workers is killed: the other goes on, a new one comes with what is in force, whatever the files say."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, tls_dial, tls_exchange
from tests.scenarios.changes import reload, unix_admin
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    import socket

    from tests.scenarios.stage import Stage

TWO = "[runtime]\nworkers = 2\n"


def is_served(caller: socket.socket) -> bool:
    try:
        caller.sendall(b"still")
        return caller.recv(5) == b"still"
    except OSError:
        return False


def test_crashed_worker_is_replaced(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    tables = unix_admin("api") + TWO + inbound(forward=service.address)
    api = stage.sidecar("api", tables)
    address, context = api.address("api"), client_context(stage.identity("/web"))
    assert api.status().state == "serving"

    with tls_dial(address, context) as first, tls_dial(address, context) as second:
        for caller in (first, second):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"
        assert [each.open for each in api.status().workers] == [1, 1]
        victim, survivor = api.status().workers
        stage.write("web.allow.toml", "[[allow")
        assert reload(api).status == 422

        os.kill(victim.pid, signal.SIGKILL)
        assert api.log.event("worker_exited", worker=1)["how"] == "signal SIGKILL"
        poll(lambda: api.status().workers[0].state == "serving", "the place is filled again")

        assert sum(is_served(caller) for caller in (first, second)) == 1
        assert api.status().workers[1].pid == survivor.pid

    for _ in range(6):  # whoever of the two accepts: the list in force is the one before the broken one
        assert tls_exchange(address, context, b"hello") == b"hello"
    told = api.status()
    assert [(each.restarts, each.generation) for each in told.workers] == [(1, 1), (0, 1)]
    assert "web.allow.toml:1" in told.configuration.last_error
    assert api.metric("meshproxy_worker_restarts_total") == 1
    poll(lambda: api.status().listeners[0].ended.get("clean", 0) >= 6, "all ends are counted")
    counted = api.metric("meshproxy_connections_total", listener="api", end="clean")

    for worker in told.workers:
        os.kill(worker.pid, signal.SIGKILL)
    poll(lambda: all(each.state == "serving" for each in api.status().workers), "both places are filled again")
    assert api.metric("meshproxy_connections_total", listener="api", end="clean") >= counted
    assert tls_exchange(address, context, b"hello") == b"hello"

    api.signal(signal.SIGTERM)
    assert api.exit_code() == 0
