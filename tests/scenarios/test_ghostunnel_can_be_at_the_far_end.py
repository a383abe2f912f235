"""ghostunnel in place of a sidecar: it sends close_notify and half-closes both ways, so every end is clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, answer_of_a_sink, sink, tell_a_sink
from tests.scenarios.programs import Program, free_port, require
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.stage import Stage

MUCH = 4 * 1024 * 1024


def ghostunnel(stage: Stage, mode: str, as_whom: Identity, target: str, *more: str) -> str:
    """Start ghostunnel as somebody; returns the address it listens on."""
    program, address = require("ghostunnel"), f"127.0.0.1:{free_port()}"
    arguments: list[str | Path] = [program, mode, "--listen", address, "--target", target, *more]
    arguments += ["--cert", as_whom.chain, "--key", as_whom.key, "--cacert", as_whom.bundle]
    stage.keep(Program(arguments, ports=[int(address.rpartition(":")[2])], folder=stage.workspace))
    return address


def test_it_calls_us(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))
    verify = ("--verify-uri", "spiffe://mesh.test/api", "--override-server-name", "api.test")
    address = ghostunnel(stage, "client", stage.identity("/web"), api.address("api"), *verify)

    assert tell_a_sink(address, MUCH) == answer_of_a_sink(MUCH)

    line = api.log.connection(bytes_in=MUCH)
    assert (line.end, line.caller) == ("clean", "spiffe://mesh.test/web")
    assert service.visit().ended is Ended.EOF


def test_we_call_it(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    allow = ("--allow-uri", "spiffe://mesh.test/web")
    address = ghostunnel(stage, "server", stage.identity("/api"), service.address, *allow)
    web = stage.sidecar("web", outbound(endpoints=[address]))

    assert tell_a_sink(web.address("to-api"), MUCH) == answer_of_a_sink(MUCH)

    line = web.log.connection()
    assert (line.end, line.upstream_id, line.bytes_in) == ("clean", "spiffe://mesh.test/api", MUCH)
    assert service.visit().ended is Ended.EOF
