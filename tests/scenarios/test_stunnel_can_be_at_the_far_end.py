"""stunnel in place of a sidecar: it sends close_notify and half-closes both ways, so every end is clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, answer_of_a_sink, sink, tell_a_sink
from tests.scenarios.programs import Program, free_port, pem_of_all, require
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.factory import Identity
    from tests.scenarios.stage import Stage

MUCH = 4 * 1024 * 1024


def stunnel(stage: Stage, as_whom: Identity, *service: str) -> str:
    """Start stunnel as somebody; returns the address it listens on."""
    program, port = require("stunnel"), free_port()
    lines = [
        "foreground = yes",
        "pid =",
        "[mesh]",
        f"accept = 127.0.0.1:{port}",
        f"cert = {pem_of_all(as_whom)}",
        f"CAfile = {as_whom.bundle}",
        "verifyChain = yes",
        *service,
    ]
    file = stage.write(f"stunnel-{port}.conf", "\n".join(lines) + "\n")
    stage.keep(Program([program, file], ports=[port], folder=stage.workspace))
    return f"127.0.0.1:{port}"


def test_it_calls_us(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))
    target = f"connect = {api.address('api')}"
    address = stunnel(stage, stage.identity("/web"), "client = yes", target, "checkHost = api.test")

    assert tell_a_sink(address, MUCH) == answer_of_a_sink(MUCH)

    line = api.log.connection()
    assert (line.end, line.caller, line.bytes_in) == ("clean", "spiffe://mesh.test/web", MUCH)
    assert service.visit().ended is Ended.EOF


def test_we_call_it(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    address = stunnel(stage, stage.identity("/api"), f"connect = {service.address}", "requireCert = yes")
    web = stage.sidecar("web", outbound(endpoints=[address]))

    assert tell_a_sink(web.address("to-api"), MUCH) == answer_of_a_sink(MUCH)

    line = web.log.connection()
    assert (line.end, line.upstream_id, line.bytes_in) == ("clean", "spiffe://mesh.test/api", MUCH)
    assert service.visit().ended is Ended.EOF
