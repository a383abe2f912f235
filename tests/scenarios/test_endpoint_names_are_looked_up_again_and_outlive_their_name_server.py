"""Names of endpoints are resolved for each connection: a change is followed, a dead or slow server holds up nobody.

Needs a mount namespace, in which /etc/resolv.conf names a server of the test's own on port 53 of a loopback address.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.scenarios.actors import Ended, Service, dial, echo, exchange, listen_to, read_to_end
from tests.scenarios.programs import free_port, require
from tests.scenarios.stage import Sidecar, command, inbound, outbound

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.scenarios.stage import Stage

NAME = "ledger.mesh.example"
A, REFUSED, NXDOMAIN = 1, 5, 3  # RFC 1035 sections 3.2.2 and 4.1.1


class NameServer:
    """Answers for NAME with `address`; says NXDOMAIN where that is empty, and nothing while `silent`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.host = f"127.{random.randrange(64, 250)}.{random.randrange(250)}.{random.randrange(2, 250)}"
        self.address = ""
        self.silent = False
        self.asked = 0

    def __enter__(self) -> Self:
        try:
            self._socket.bind((self.host, 53))  # resolv.conf(5) knows no other port
        except OSError as error:
            pytest.skip(f"nobody may be a name server here: {error}")
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, whom = self._socket.recvfrom(512)
                if not query:
                    return
                self.asked += 1
                if not self.silent:
                    self._socket.sendto(self._answer(query), whom)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035 section 4: the question again, and one record if there is one of that kind."""
        end = query.index(b"\0", 12) + 5
        question, kind = query[12:end], struct.unpack("!H", query[end - 4 : end - 2])[0]
        if not self.address:
            return query[:2] + struct.pack("!HHHHH", 0x8180 | NXDOMAIN, 1, 0, 0, 0) + question
        if kind != A:
            return query[:2] + struct.pack("!HHHHH", 0x8180, 1, 0, 0, 0) + question
        record = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 0, 4) + socket.inet_aton(self.address)
        return query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question + record


@pytest.fixture
def names(stage: Stage) -> NameServer:
    return stage.keep(NameServer())


def in_a_world_of(names: NameServer, stage: Stage, file: Path) -> Sidecar:
    """Start a sidecar whose machine asks this name server, and nobody else."""
    unshare = require("unshare")
    resolv = stage.write("resolv.conf", f"nameserver {names.host}\noptions timeout:30 attempts:1\n")
    nsswitch = stage.write("nsswitch.conf", "hosts: files dns\n")
    world = f'mount --bind {resolv} /etc/resolv.conf && mount --bind {nsswitch} /etc/nsswitch.conf && exec "$@"'
    new = [unshare, "-m"] if os.geteuid() == 0 else [unshare, "-r", "-m"]
    if subprocess.run([*new, "sh", "-c", world, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("nobody may mount over /etc/resolv.conf here")
    arguments = [*new, "sh", "-c", world, "sh", *command("run", file)]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return stage.look_after(Sidecar(file, process=process))


def two_apis(stage: Stage) -> int:
    """Sidecars of /api on two addresses, the same port; behind each a service that says which it is."""
    port = free_port()
    identity = stage.identity("/api").directory
    for host in ("127.0.0.2", "127.0.0.3"):

        def say(sock: socket.socket, _visit: object, host: str = host) -> None:
            sock.sendall(host.encode())
            sock.shutdown(socket.SHUT_WR)

        tables = inbound(forward=stage.keep(Service(say)).address)
        stage.sidecar(f"api-{host}", tables.replace("127.0.0.1:0", f"{host}:{port}"), identity=identity)
    return port


def who_answers(web: Sidecar) -> str:
    with dial(web.address("to-api")) as sock:
        sock.shutdown(socket.SHUT_WR)
        heard, ended = read_to_end(sock)
    assert ended is Ended.EOF
    return heard.decode()


@pytest.mark.long
def test_a_change_is_followed_and_a_failure_is_outlived(stage: Stage, names: NameServer) -> None:
    port = two_apis(stage)
    file = stage.configure("web", outbound(endpoints=[f"{NAME}:{port}"], more='connect_timeout = "2s"'))
    web = in_a_world_of(names, stage, file)
    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)  # never known: nobody to fall back to
    assert f"cannot resolve {NAME}" in web.log.event("upstream_failed", phase="resolve").text("detail")

    names.address = "127.0.0.2"
    assert who_answers(web) == "127.0.0.2"
    names.address = "127.0.0.3"
    assert who_answers(web) == "127.0.0.3"  # asked again, not frozen at start

    names.address = ""  # NXDOMAIN: somebody broke the zone
    assert who_answers(web) == "127.0.0.3"
    names.silent = True
    assert who_answers(web) == "127.0.0.3"  # after connect_timeout, with the last good answer
    names.silent, names.address = False, "127.0.0.2"
    assert who_answers(web) == "127.0.0.2"
    assert names.asked > 5


@pytest.mark.long
def test_a_silent_name_server_holds_up_no_other_listener(stage: Stage, names: NameServer) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    names.silent = True
    tables = outbound("by-name", endpoints=[f"{NAME}:1"], more='connect_timeout = "15s"')
    tables += outbound(endpoints=[api.address("api")])
    web = in_a_world_of(names, stage, stage.configure("web", tables))
    assert exchange(web.address("to-api"), b"warm") == b"warm"
    with contextlib.ExitStack() as held:
        waiting = [held.enter_context(dial(web.address("by-name"))) for _ in range(20)]
        took = []
        for _ in range(50):
            began = time.monotonic()
            assert exchange(web.address("to-api"), b"hello") == b"hello"
            took.append(time.monotonic() - began)
        assert sorted(took)[len(took) // 2] < 1.0  # a look-up that held the loop would hold each for seconds
        assert len(waiting) == 20
        assert web.get("/live").status == 200
