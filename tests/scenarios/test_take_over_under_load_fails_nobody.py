"""`run --take-over` under 200 requests a second: the new process serves, then the old one ends; no request fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, dial, echo, exchange, tls_dial
from tests.scenarios.changes import Load, allow, unix_admin
from tests.scenarios.http_actors import Caller, Origin, fingerprints
from tests.scenarios.programs import free_port
from tests.scenarios.stage import PATIENCE, Sidecar, command, inbound, meshproxy, outbound, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

CLIENTS, PAUSE = 20, 0.1  # 200 requests a second


def successor(file: Path) -> Sidecar:
    return Sidecar(file, "run", "--take-over", file)


def at(address: str, table: str) -> str:
    return table.replace("127.0.0.1:0", address)


def swap(stage: Stage, old: Sidecar, file: Path | None = None) -> Sidecar:
    """Start another process in the place of the old one, which ends by itself."""
    new = stage.look_after(successor(file or old.file))
    new.log.event("took_over", predecessor=old.process.pid)
    old.expect_end()
    assert old.exit_code() == 0
    assert old.log.event("stopped")["nothing_cut"] is True
    return new


@pytest.mark.parametrize(
    ("workers", "times"),
    [(1, 1), pytest.param(1, 5, marks=pytest.mark.long), pytest.param(2, 5, marks=pytest.mark.long)],
)
def test_a_binary_is_swapped_under_load(stage: Stage, workers: int, times: int) -> None:
    """Both sidecars of the way are swapped in turn, and every listener keeps its port."""
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    runtime = f"[runtime]\nworkers = {workers}\n"
    api = stage.sidecar("api", runtime + unix_admin("api") + inbound(forward=origin.address, protocol="http"))
    endpoint = api.address("api")
    web = stage.sidecar("web", runtime + unix_admin("web") + outbound(endpoints=[endpoint], protocol="http"))
    entrance = web.address("to-api")
    with Load(lambda: Caller(dial(entrance)), clients=CLIENTS, pause=PAUSE) as load:
        for _ in range(times):
            load.wait_for(5 * CLIENTS)
            api = swap(stage, api)
            assert api.address("api") == endpoint
            load.wait_for(5 * CLIENTS)
            web = swap(stage, web)
            assert web.address("to-api") == entrance
        load.wait_for(5 * CLIENTS)
    print(f"{load.served} requests over {2 * times} swaps, {len(load.failures)} failed")
    load.judge(at_least=10 * CLIENTS * times)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_listeners_come_and_go_with_the_new_file_and_unix_ones_stay(stage: Stage, workers: int) -> None:
    service = stage.keep(Service(echo))
    runtime = f"[runtime]\nworkers = {workers}\n"
    stays = f"127.0.0.1:{free_port()}"
    api = stage.sidecar("api", inbound(forward=service.address))
    out = outbound("stays", endpoints=[api.address("api")]).replace("127.0.0.1:0", "unix:stays.sock")
    gone = outbound("goes", endpoints=[api.address("api")]).replace("127.0.0.1:0", "unix:goes.sock")
    web = stage.sidecar("web", runtime + unix_admin("web") + out + gone)
    identity = stage.workspace / "identity-web"
    new = outbound("comes", endpoints=[api.address("api")]).replace("127.0.0.1:0", stays)
    file = stage.configure("web", runtime + unix_admin("web") + out + new, identity=identity)
    with dial(f"unix:{stage.workspace / 'stays.sock'}") as open_one:
        open_one.sendall(b"before")
        assert open_one.recv(6) == b"before"
        heir = stage.look_after(successor(file))
        assert heir.log.event("took_over")["listeners"] == ["admin", "outbound/stays"]
        # Open connections are served to their end by the process that has them.
        open_one.sendall(b"behind")
        assert open_one.recv(6) == b"behind"
    web.expect_end()
    assert web.exit_code() == 0

    assert exchange(f"unix:{stage.workspace / 'stays.sock'}", b"new") == b"new"
    assert exchange(stays, b"new") == b"new"
    assert not (stage.workspace / "goes.sock").exists()
    assert heir.status().state == "serving"  # at the admin socket that the old one had
    assert heir.status().pid == heir.process.pid
    heir.signal(signal.SIGTERM)
    assert heir.exit_code() == 0
    assert not (stage.workspace / "stays.sock").exists()
    assert not (stage.workspace / "web.admin.sock").exists()


@pytest.mark.long
def test_a_new_process_that_cannot_serve_changes_nothing(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    taken = free_port()
    tables = unix_admin("api") + inbound(forward=service.address)
    api = stage.sidecar("api", tables)
    address = api.address("api")
    context = client_context(stage.identity("/web"))
    with tls_dial(address, context) as open_one, socket.create_server(("127.0.0.1", taken)):
        open_one.sendall(b"one")
        assert open_one.recv(3) == b"one"
        # An address in use: found after the sockets came, before it serves.
        clash = at(f"127.0.0.1:{taken}", inbound("other", forward=service.address))
        file = stage.configure("api", tables + clash, identity=stage.workspace / "identity-api")
        told = meshproxy("run", "--take-over", file)
        assert told.returncode == 1
        assert "the address is in use" in told.stderr
        # A faulty file: before anybody is asked.
        file.write_text(file.read_text().replace('policy = "web.allow.toml"', 'policy = "nowhere.toml"'))
        told = meshproxy("run", "--take-over", file)
        assert told.returncode == 1
        assert "the running one goes on" in told.stderr
        open_one.sendall(b"two")
        assert open_one.recv(3) == b"two"
    api.log.event("take_over_failed")
    with tls_dial(address, context) as caller:
        caller.sendall(b"still")
        assert caller.recv(5) == b"still"
    assert api.process.poll() is None


def test_what_is_in_the_way_is_one_clear_sentence(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    on_tcp = stage.configure("api", inbound(forward=service.address))
    told = meshproxy("run", "--take-over", on_tcp)
    assert told.returncode == 1
    assert "taking over needs an admin unix socket" in told.stderr
    file = stage.configure("api", unix_admin("api") + inbound(forward=service.address))
    told = meshproxy("run", "--take-over", file)
    assert told.returncode == 1
    assert "there is nothing to take over: start it without --take-over" in told.stderr


@pytest.mark.long
def test_detached_it_returns_when_it_serves(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", unix_admin("api") + inbound(forward=service.address))
    log = stage.workspace / "detached.log"
    with log.open("w") as told:
        done = subprocess.run(
            command("run", "--take-over", "--detach", api.file), stderr=told, check=False, timeout=PATIENCE
        )
    assert done.returncode == 0
    assert '"event":"took_over"' in log.read_text()
    api.expect_end()
    assert api.exit_code() == 0
    heir = api.status().pid
    try:
        assert heir != api.process.pid
        with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"
    finally:
        os.kill(heir, signal.SIGTERM)
    poll(lambda: not (stage.workspace / "api.admin.sock").exists(), "it has ended")


@pytest.mark.long
def test_detached_it_tells_that_it_cannot(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    file = stage.configure("api", unix_admin("api") + inbound(forward=service.address))
    told = meshproxy("run", "--take-over", "--detach", file)
    assert told.returncode == 1
    assert "there is nothing to take over" in told.stderr
