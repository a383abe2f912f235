"""Under a service manager: sockets it holds are served, and it hears of readiness, reloads, life and the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, dial, echo, exchange, tls_dial, tls_exchange
from tests.scenarios.changes import unix_admin, until_generation
from tests.scenarios.managing import ServiceManager
from tests.scenarios.stage import Sidecar, inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

WORKERS = [1, pytest.param(2, marks=pytest.mark.long)]


def runtime(workers: int) -> str:
    return f'[runtime]\nworkers = {workers}\ndrain_timeout = "5s"\n'


def unix_listener(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    path.chmod(0o660)
    sock.listen()
    return sock


@pytest.mark.long
@pytest.mark.parametrize("workers", WORKERS)
def test_its_sockets_are_served_and_stay_its_own(stage: Stage, workers: int) -> None:
    """Whoever connects while no sidecar runs waits, and is served by the next one."""
    manager, service = stage.keep(ServiceManager(stage.workspace)), stage.keep(Service(echo))
    api_socket = stage.keep(socket.create_server(("127.0.0.1", 0)))
    out_socket = stage.keep(unix_listener(stage.workspace / "out.sock"))
    admin = stage.keep(unix_listener(stage.workspace / "api.admin.sock"))
    unknown = stage.keep(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{api_socket.getsockname()[1]}"
    tables = (
        runtime(workers)
        + unix_admin("api")
        + inbound(forward=service.address).replace("127.0.0.1:0", address)
        + outbound(endpoints=[address]).replace("127.0.0.1:0", "unix:out.sock")
    )
    file = stage.configure("api", tables)
    passed = [("api", api_socket), ("s.socket", out_socket), ("s.socket", admin), ("s.socket", unknown)]
    context = client_context(stage.identity("/web"))
    for _ in range(2):
        api = stage.look_after(manager.start(file, passed))
        assert api.address("api") == address
        assert tls_exchange(address, context, b"hello") == b"hello"
        warning = api.log.event("inherited_socket_unused")
        assert str(unknown.getsockname()[1]) in warning.text("socket")
        assert api.status().state == "serving"
        api.signal(signal.SIGTERM)
        assert api.exit_code() == 0
        assert (stage.workspace / "out.sock").exists()
        assert (stage.workspace / "api.admin.sock").exists()
    early = stage.keep(dial(address))  # nobody runs: it waits in the queue
    last = stage.look_after(manager.start(file, passed))
    with context.wrap_socket(early) as patient:
        patient.sendall(b"waited")
        assert patient.recv(6) == b"waited"
    assert last.process.poll() is None


def test_a_disagreement_is_one_clear_sentence(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    elsewhere = stage.keep(socket.create_server(("127.0.0.1", 0)))
    file = stage.configure("api", inbound(forward=service.address).replace("127.0.0.1:0", "127.0.0.1:1"))
    elsewhere.set_inheritable(True)
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='api');"
        "os.execv(sys.executable, [sys.executable, '-m', 'meshproxy', 'run', sys.argv[2]])"
    )
    told = subprocess.run(
        [sys.executable, "-c", start, str(elsewhere.fileno()), file],
        pass_fds=[elsewhere.fileno()],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert told.returncode == 1
    assert "write the same address in both; nothing was started" in told.stderr


@pytest.mark.parametrize("workers", WORKERS)
def test_it_hears_of_a_whole_life(stage: Stage, workers: int) -> None:
    manager, service = stage.keep(ServiceManager(stage.workspace)), stage.keep(Service(echo))
    tables = runtime(workers) + inbound(forward=service.address)
    file = stage.configure("api", tables)
    api = stage.look_after(manager.start(file, watchdog=0.4))
    assert manager.hear("READY")["STATUS"] == "serving 1 listener, generation 1"
    manager.hear("WATCHDOG", times=3)

    stage.configure("api", tables + "max_connections = 77\n", identity=stage.workspace / "identity-api")
    api.signal(signal.SIGHUP)
    assert int(manager.hear("RELOADING")["MONOTONIC_USEC"]) > 0
    assert manager.hear("READY", times=2)["STATUS"] == "serving 1 listener, generation 2"
    until_generation(api, 2)
    file.write_text("nonsense")
    api.signal(signal.SIGHUP)
    assert "generation 2; the last reload failed: " in manager.hear("READY", times=3)["STATUS"]

    api.signal(signal.SIGTERM)
    assert int(manager.hear("STOPPING")["EXTEND_TIMEOUT_USEC"]) >= 5_000_000
    assert api.exit_code() == 0


@pytest.mark.long
@pytest.mark.parametrize("workers", WORKERS)
def test_a_stuck_loop_is_found(stage: Stage, workers: int) -> None:
    """One process: its manager hears nothing more. Several: the stuck one is ended, and another takes its place."""
    manager, service = stage.keep(ServiceManager(stage.workspace)), stage.keep(Service(echo))
    file = stage.configure("api", runtime(workers) + inbound(forward=service.address))
    api = stage.look_after(manager.start(file, watchdog=0.4 if workers == 1 else 2.0))
    manager.hear("WATCHDOG", times=2)
    stuck = api.serving[0]
    os.kill(stuck, signal.SIGSTOP)
    if workers > 1:
        api.log.event("worker_silent", pid=stuck)
        poll(lambda: stuck not in api.serving and len(api.serving) == workers, "another one serves")
        return
    before = len(manager.all("WATCHDOG"))
    with pytest.raises(AssertionError):
        manager.hear("WATCHDOG", times=before + 2, within=1.5)
    os.kill(stuck, signal.SIGCONT)
    manager.hear("WATCHDOG", times=before + 2)


@pytest.mark.long
@pytest.mark.parametrize("workers", WORKERS)
def test_after_a_take_over_the_new_process_is_the_service(stage: Stage, workers: int) -> None:
    manager, service = stage.keep(ServiceManager(stage.workspace)), stage.keep(Service(echo))
    passed = stage.keep(unix_listener(stage.workspace / "out.sock"))
    far = stage.sidecar("api", inbound(forward=service.address))
    tables = runtime(workers) + unix_admin("web")
    tables += outbound(endpoints=[far.address("api")]).replace("127.0.0.1:0", "unix:out.sock")
    file = stage.configure("web", tables)
    old = stage.look_after(manager.start(file, [("out", passed)]))
    manager.hear("READY")
    os.environ["NOTIFY_SOCKET"] = manager.path
    try:
        heir = stage.look_after(Sidecar(file, "run", "--take-over", file))
    finally:
        del os.environ["NOTIFY_SOCKET"]
    assert manager.hear("MAINPID")["MAINPID"] == str(heir.process.pid)
    old.expect_end()
    assert old.exit_code() == 0
    assert manager.all("STOPPING") == []  # the service goes on
    assert exchange(f"unix:{stage.workspace / 'out.sock'}", b"still") == b"still"
    heir.signal(signal.SIGTERM)
    assert heir.exit_code() == 0
    assert len(manager.all("STOPPING")) == 1
    assert (stage.workspace / "out.sock").exists()  # it was lent, and still is


@pytest.mark.long
def test_who_is_started_by_us_speaks_to_nobody(stage: Stage) -> None:
    """Variables of the service manager are not left for workers."""
    manager, service = stage.keep(ServiceManager(stage.workspace)), stage.keep(Service(echo))
    file = stage.configure("api", runtime(2) + inbound(forward=service.address))
    api = stage.look_after(manager.start(file, watchdog=60))
    with tls_dial(api.address("api"), client_context(stage.identity("/web"))):
        for pid in api.serving:
            found = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in found
            assert b"LISTEN_" not in found
            assert b"WATCHDOG_" not in found
