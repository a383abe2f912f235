"""An address somebody else has is told in one sentence at start, with the command that says who."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from tests.scenarios.stage import inbound, meshproxy

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_address_in_use_is_one_clear_sentence(stage: Stage) -> None:
    taken = stage.keep(contextlib.closing(socket.create_server(("127.0.0.1", 0))))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    file = stage.configure("api", inbound(forward="127.0.0.1:8080").replace("127.0.0.1:0", address))

    ran = meshproxy("run", file)

    assert ran.returncode == 1
    [told] = [line for line in ran.stderr.splitlines() if not line.startswith("{")]
    assert told == (
        f"meshproxy: cannot listen on {address}: the address is in use; "
        f"see by whom with: ss -ltnp sport = :{address.rpartition(':')[2]}; nothing was started"
    )
    assert ran.stdout == ""


def test_a_living_unix_socket_is_not_taken_over_and_a_dead_one_is(stage: Stage) -> None:
    path = stage.workspace / "door"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    tables = inbound(forward="127.0.0.1:8080").replace("127.0.0.1:0", f"unix:{path}")

    with listener:
        ran = meshproxy("run", stage.configure("api", tables))
        assert ran.returncode == 1
        assert f"cannot listen on unix:{path}: the address is in use" in ran.stderr

    api = stage.sidecar("api", tables)  # nobody listens any more: what a killed process left behind
    assert api.address("api") == f"unix:{path}"
