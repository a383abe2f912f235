"""kill -9 of the process that leads: its workers free the address at once, serve who is in, and end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.programs import free_port
from tests.scenarios.stage import PATIENCE, inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

TWO = '[runtime]\nworkers = 2\ndrain_delay = "60s"\n'


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_end_with_their_supervisor(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    tables = TWO + inbound(forward=service.address).replace("127.0.0.1:0", f"127.0.0.1:{free_port()}")
    api = stage.sidecar("api", tables)
    workers = api.serving
    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"

        api.signal(signal.SIGKILL)
        api.process.wait(PATIENCE)
        again = stage.run(api.file)  # it binds the same address
        assert again.address("api") == api.address("api")
        caller.sendall(b"still")
        assert caller.recv(5) == b"still"

    poll(lambda: not any(map(runs, workers)), "the workers have ended")
