"""On the plain side both directions may be unix sockets, relative to the sidecar's file; endings work as over TCP."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, crc_of_pattern, dial, read_to_end, send_pattern, sink
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

MUCH = 4 * 1024 * 1024


def test_plain_side_may_be_a_unix_socket(stage: Stage) -> None:
    service = stage.keep(Service(sink, path=stage.workspace / "service.sock"))
    api = stage.sidecar("api", inbound(forward="unix:service.sock"))
    door = stage.workspace / "door.sock"
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]).replace("127.0.0.1:0", "unix:door.sock"))

    assert web.address("to-api") == f"unix:{door}"
    assert stat.S_IMODE(door.stat().st_mode) == 0o660
    with dial(f"unix:{door}") as caller:
        send_pattern(caller, MUCH)
        caller.shutdown(socket.SHUT_WR)
        assert read_to_end(caller) == (f"{MUCH} {crc_of_pattern(MUCH):08x}".encode(), Ended.EOF)

    assert service.visit().ended is Ended.EOF
    assert api.log.connection(end="clean").upstream == service.address
    line = web.log.connection(end="clean")
    assert (line.peer, line.bytes_in) == ("unix", MUCH)
