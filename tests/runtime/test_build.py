"""A whole sidecar in-process: bound as the file says, telling how it is, serving, draining, leaving nothing behind."""

from __future__ import annotations

import gc
import json
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.errors import FaultyInput, StartError
from meshproxy.runtime.build import run_sidecar
from meshproxy.runtime.telling import Telling
from meshproxy.settings.load import load_configuration
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.writer import LogWriter
from meshproxy.wire.tls import receive
from tests.factory import MeshCa, make_mesh_ca
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from meshproxy.telemetry.access import AccessLine

SIDECAR = """
[identity]
dir = "api"
[admin]
listen = "unix:{home}/admin"
public_listen = "unix:{home}/public"
[runtime]
drain_timeout = "5s"
[[inbound]]
name = "in"
listen = "unix:{home}/in"
forward = "unix:{home}/service"
protocol = "tcp"
policy = "in.allow.toml"
[[outbound]]
name = "self"
listen = "unix:{home}/out"
to = "/api"
endpoints = "unix:{home}/in"
protocol = "tcp"
"""


@dataclass
class House:
    """One sidecar that calls itself: its outbound listener leads to its inbound one."""

    home: Path
    mesh: MeshCa
    telling: Telling
    heard: Heard
    lines: list[AccessLine]
    nothing_cut: bool | None = None

    async def run(self) -> None:
        file = self.home / "side.toml"
        self.nothing_cut = await run_sidecar(str(file), load_configuration(file), self.telling)

    def connect(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.home / name))
        sock.setblocking(False)
        return sock

    async def get(self, target: str, *, door: str = "admin") -> tuple[int, bytes]:
        with self.connect(door) as sock:
            sock.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while data := await receive(sock, 65536):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def started(self) -> None:
        with trio.fail_after(5):
            while "started" not in self.heard.names:  # noqa: ASYNC110 - a log wakes nobody
                await trio.sleep(0.002)

    @property
    def sockets(self) -> set[str]:
        return {path.name for path in self.home.iterdir() if path.is_socket()}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    mesh = make_mesh_ca(tmp_path)
    mesh.issue("/api")
    (tmp_path / "side.toml").write_text(SIDECAR.format(home=tmp_path))
    (tmp_path / "in.allow.toml").write_text('[[allow]]\nname = "self"\nfrom = "/api"\n')
    log, heard = listening_log()
    lines: list[AccessLine] = []
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno())
        yield House(tmp_path, mesh, Telling(log, lines.append, writer, Metrics()), heard, lines)
        writer.close()
    gc.unfreeze()


@pytest.fixture
async def running(house: House, nursery: trio.Nursery) -> AsyncIterator[House]:
    async def attend(sock: trio.SocketStream) -> None:
        async for data in sock:
            await sock.send_all(data.upper())

    service = trio.socket.socket(socket.AF_UNIX)
    await service.bind(str(house.home / "service"))
    service.listen()
    nursery.start_soon(trio.serve_listeners, attend, [trio.SocketListener(service)])
    nursery.start_soon(house.run)
    await house.started()
    yield house
    nursery.cancel_scope.cancel()


async def ended(house: House) -> None:
    with trio.fail_after(10):
        while "stopped" not in house.heard.names:  # noqa: ASYNC110 - a log wakes nobody
            await trio.sleep(0.002)


async def test_bytes_go_out_and_in_and_every_page_tells_it(running: House) -> None:
    with running.connect("out") as app:
        app.send(b"hello")
        assert await receive(app, 100) == b"HELLO"
        assert await running.get("/live") == (200, b'{"live":true}\n')
        assert await running.get("/ready", door="public") == (200, b'{"ready":true,"state":"serving"}\n')
        code, body = await running.get("/status")
        status = json.loads(body)
        assert (code, status["state"], status["identity"]["id"]) == (200, "serving", "spiffe://mesh.test/api")
        assert [(each["role"], each["seconds_left"] > 0) for each in status["identity"]["certificates"]] == [
            ("leaf", True),
            ("intermediate", True),
            ("root", True),
        ]
        inbound, outbound = status["listeners"]
        assert (inbound["name"], inbound["open"], inbound["decided"]) == ("in", 1, {"allow": 1})
        assert (inbound["policy"]["rules"], inbound["mode"]) == (1, "enforce")
        assert (outbound["to"], outbound["direction"], outbound["policy"]) == ("/api", "outbound", None)
        code, metrics = await running.get("/metrics", door="public")
        assert code == 200
        assert b'meshproxy_connections_open{listener="in"} 1.0' in metrics
        assert b'meshproxy_certificate_expiry_seconds{certificate="root"}' in metrics
    assert (await running.get("/status", door="public"))[0] == 404  # names and reasons are not for everybody


async def test_a_drain_serves_who_is_in_and_leaves_no_socket(running: House) -> None:
    with running.connect("out") as app:
        app.send(b"a")
        assert await receive(app, 1) == b"A"
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await running.get("/ready") == (503, b'{"ready":false,"state":"draining"}\n')
        app.send(b"b")
        assert await receive(app, 1) == b"B"
        app.shutdown(socket.SHUT_WR)
        assert await receive(app, 1) == b""
    await ended(running)
    assert running.nothing_cut is True
    assert running.sockets == {"service"}
    assert {line.end for line in running.lines} == {"clean"}


async def test_a_second_signal_exits_at_once_and_tells_what_was_cut(running: House) -> None:
    with running.connect("out") as app:
        app.send(b"a")
        assert await receive(app, 1) == b"A"
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked(0.01)
        signal.raise_signal(signal.SIGTERM)
        await ended(running)
    assert running.nothing_cut is False
    assert running.sockets == {"service"}
    assert [line.end for line in running.lines] == ["drained", "drained"]
    assert running.heard.named("internal_error") == []


async def test_without_an_identity_it_is_up_not_ready_and_heals_on_sighup(house: House, nursery: trio.Nursery) -> None:
    (house.home / "api").rename(house.home / "elsewhere")
    nursery.start_soon(house.run)
    await house.started()
    assert await house.get("/ready") == (503, b'{"ready":false,"state":"refusing"}\n')
    status = json.loads((await house.get("/status"))[1])
    assert status["identity"]["ready"] is False
    assert "there is no identity in" in status["identity"]["reason"]
    assert "meshproxy ca issue" in status["identity"]["remedy"]
    (house.home / "elsewhere").rename(house.home / "api")
    signal.raise_signal(signal.SIGHUP)
    with trio.fail_after(5):
        while (await house.get("/ready"))[0] != 200:  # noqa: ASYNC110 - it is asked as a load balancer asks
            await trio.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
    await ended(house)


async def test_a_faulty_identity_ends_the_start_before_anything_is_bound(house: House) -> None:
    (house.home / "api" / "current" / "bundle.pem").write_text("")
    with pytest.raises(FaultyInput):
        await house.run()
    assert house.sockets == set()


async def test_an_address_in_use_leaves_nothing_half_started(house: House) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(house.home / "out"))
        other.listen()
        with pytest.raises(StartError, match="the address is in use"):
            await house.run()
        assert house.sockets == {"out"}
