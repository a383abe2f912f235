"""`openssl s_client` and `s_server`, what people debug with: close_notify at the end, a bare FIN when killed."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end
from tests.scenarios.programs import Program, free_port, require
from tests.scenarios.stage import PATIENCE, inbound, outbound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.stage import Sidecar, Stage


def certified(as_whom: Identity) -> list[str | Path]:
    chain = as_whom.chain
    return ["-cert", chain, "-cert_chain", chain, "-key", as_whom.key, "-CAfile", as_whom.bundle, "-quiet"]


@pytest.fixture
def served(stage: Stage) -> tuple[Service, Sidecar]:
    service = stage.keep(Service(echo))
    return service, stage.sidecar("api", inbound(forward=service.address))


@pytest.fixture
def s_client(stage: Stage, served: tuple[Service, Sidecar]) -> Iterator[subprocess.Popen[bytes]]:
    """An s_client that has said hello and heard it back."""
    address = served[1].address("api")
    who = certified(stage.identity("/web"))
    # -quiet makes it ignore the end of its input, so -no_ign_eof comes after it.
    arguments = [require("openssl"), "s_client", "-connect", address, *who, "-no_ign_eof"]
    pipe = subprocess.PIPE
    with subprocess.Popen(list(map(str, arguments)), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        yield process
        process.kill()


def test_s_client_ends_properly(served: tuple[Service, Sidecar], s_client: subprocess.Popen[bytes]) -> None:
    service, api = served

    s_client.communicate(timeout=PATIENCE)  # the end of its input

    assert service.visit().ended is Ended.EOF
    line = api.log.connection()
    assert (line.end, line.caller, line.bytes_in) == ("clean", "spiffe://mesh.test/web", 6)


def test_s_client_is_ended_by_a_signal(served: tuple[Service, Sidecar], s_client: subprocess.Popen[bytes]) -> None:
    service, api = served

    s_client.send_signal(signal.SIGINT)
    s_client.wait(PATIENCE)

    assert service.visit().ended is Ended.RESET
    assert api.log.connection().end == "truncated"


def s_server(stage: Stage) -> tuple[Program, str]:
    """An s_server that says each line back reversed."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    demand = ["-Verify", "3", "-verify_return_error", "-rev"]
    arguments = [require("openssl"), "s_server", "-accept", address, *demand, *certified(stage.identity("/api"))]
    return stage.keep(Program(arguments, ports=[port], folder=stage.workspace)), address


def test_s_server_ends_properly(stage: Stage) -> None:
    _, address = s_server(stage)
    web = stage.sidecar("web", outbound(endpoints=[address]))

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello\n")
        assert caller.recv(6) == b"olleh\n"
        caller.shutdown(socket.SHUT_WR)
        assert read_to_end(caller) == (b"", Ended.EOF)

    line = web.log.connection()
    assert (line.end, line.upstream_id, line.bytes_in) == ("clean", "spiffe://mesh.test/api", 6)


def test_s_server_is_ended_by_a_signal(stage: Stage) -> None:
    program, address = s_server(stage)
    web = stage.sidecar("web", outbound(endpoints=[address]))

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello\n")
        assert caller.recv(6) == b"olleh\n"
        program.end()
        assert read_to_end(caller) == (b"", Ended.RESET)

    assert web.log.connection().end == "truncated"
