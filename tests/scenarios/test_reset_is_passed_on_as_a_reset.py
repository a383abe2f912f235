"""An application that breaks off is not taken for one that has finished, whichever side it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end, reset
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    import socket

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage


def test_a_callers_reset_reaches_the_service(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    caller = dial(web.address("to-api"))
    caller.sendall(b"to be continued")
    assert caller.recv(64) == b"to be continued"
    reset(caller)

    assert service.visit().ended is Ended.RESET
    assert web.log.connection(end="reset").side == "plain"
    assert api.log.connection(end="reset").side == "tls"


def test_a_services_reset_reaches_the_caller(stage: Stage) -> None:
    def break_off(sock: socket.socket, _visit: Visit) -> None:
        sock.sendall(b"once upon")
        sock.recv(1)
        reset(sock)

    service = stage.keep(Service(break_off))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as caller:
        assert caller.recv(64) == b"once upon"
        caller.sendall(b"?")
        assert read_to_end(caller) == (b"", Ended.RESET)

    assert api.log.connection(end="reset").side == "plain"
    assert web.log.connection(end="reset").side == "tls"
