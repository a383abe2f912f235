"""HAProxy in tcp mode in place of a sidecar: it sends close_notify and half-closes both ways, so every end is clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, answer_of_a_sink, listen_to, sink, tell_a_sink
from tests.scenarios.programs import Program, free_port, pem_of_all, require
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.factory import Identity
    from tests.scenarios.stage import Stage

MUCH = 4 * 1024 * 1024


def haproxy(stage: Stage, proxying: str) -> int:
    """Start HAProxy; returns the port it listens on, which the configuration has as {port}."""
    program, port = require("haproxy"), free_port()
    head = "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
    file = stage.write(f"haproxy-{port}.cfg", head + proxying.replace("{port}", str(port)))
    stage.keep(Program([program, "-db", "-f", file], ports=[port], folder=stage.workspace))
    return port


def calling(stage: Stage, as_whom: Identity, target: str) -> str:
    """HAProxy as the caller's sidecar: plain in, mutual TLS out to `target`."""
    port = haproxy(
        stage,
        "listen out\n bind 127.0.0.1:{port}\n"
        f" server far {target} ssl crt {pem_of_all(as_whom)} ca-file {as_whom.bundle} verify required"
        " verifyhost api.test\n",
    )
    return f"127.0.0.1:{port}"


def test_it_calls_us(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))
    address = calling(stage, stage.identity("/web"), api.address("api"))

    assert tell_a_sink(address, MUCH) == answer_of_a_sink(MUCH)

    line = api.log.connection()
    assert (line.end, line.caller, line.bytes_in) == ("clean", "spiffe://mesh.test/web", MUCH)
    assert service.visit().ended is Ended.EOF


def test_it_calls_us_and_is_not_on_the_list(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))
    address = calling(stage, stage.identity("/mallory"), api.address("api"))

    heard, _ = listen_to(address)

    assert heard == b""
    assert api.log.connection().end == "denied"
    assert service.visits == []


@pytest.mark.parametrize("size", [0, MUCH])
def test_we_call_it(stage: Stage, size: int) -> None:
    service, api = stage.keep(Service(sink)), stage.identity("/api")
    port = haproxy(
        stage,
        f"listen in\n bind 127.0.0.1:{{port}} ssl crt {pem_of_all(api)} ca-file {api.bundle} verify required\n"
        f" server app {service.address}\n",
    )
    web = stage.sidecar("web", outbound(endpoints=[f"127.0.0.1:{port}"]))

    assert tell_a_sink(web.address("to-api"), size) == answer_of_a_sink(size)

    line = web.log.connection()
    assert (line.end, line.upstream_id, line.bytes_in) == ("clean", "spiffe://mesh.test/api", size)
    assert service.visit().ended is Ended.EOF
