"""A byte changed on the wire is noticed: it never reaches the service, and both applications see a reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, Wire, dial, echo, read_to_end
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_flipped_byte_ends_the_connection(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    wire = stage.keep(Wire(api.address("api")))
    web = stage.sidecar("web", outbound(endpoints=[wire.address]))

    with dial(web.address("to-api")) as application:
        application.sendall(b"good")
        assert application.recv(4) == b"good"
        wire.flip_a_byte()
        application.sendall(b"evil")
        assert read_to_end(application) == (b"", Ended.RESET)

    assert service.visit().received == b"good"
    assert service.visit().ended is Ended.RESET
    corrupt = api.log.connection(end="corrupt")
    assert corrupt.side == "tls"
    assert "they were changed on the wire" in corrupt.detail
    told = web.log.connection(end="reset")
    assert told.detail == "the peer sent the alert bad record mac"
