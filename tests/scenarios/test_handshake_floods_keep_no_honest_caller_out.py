"""Thousands who connect and do not prove who they are cost an honest caller little, and leave nothing behind."""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, dial, echo, tls_dial
from tests.scenarios.stage import PATIENCE, inbound, poll

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from tests.scenarios.stage import Sidecar, Stage

SOCKETS = 2000
LOOKS = 100
# What honest callers wait is measured in the same run, quiet and during the flood. A machine that is busy with other
# things makes single ones of either late, so that the least that counts as quiet is this (seconds).
LEAST = 0.02


@pytest.fixture(autouse=True)
def descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SOCKETS + 200:
        pytest.skip("needs more descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SOCKETS + 200), hard))


@contextlib.contextmanager
def flood(api: Sidecar, kind: str, *, sockets: int, per_second: int) -> Iterator[None]:
    script = Path(__file__).with_name("flood.py")
    command = [sys.executable, str(script), api.address("api"), kind, str(sockets), str(per_second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        yield
        process.stdin.close()
        assert int(process.stdout.readline()) >= sockets
        process.wait(PATIENCE)


def honest(api: Sidecar, web: ssl.SSLContext) -> bytes:
    plain = dial(api.address("api"))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a short word waits 40 ms for an ACK
    with web.wrap_socket(plain) as sock:
        sock.sendall(b"hello")
        return sock.recv(5)


def waits(api: Sidecar, web: ssl.SSLContext) -> float:
    """What honest callers wait, each on a new connection: the 99th percentile, in seconds."""
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        assert honest(api, web) == b"hello"
        took.append(time.perf_counter() - began)
        time.sleep(0.01)
    return statistics.quantiles(took, n=100)[98]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "sockets", "per_second"),
    [("silent", SOCKETS, 1000), ("half", SOCKETS, 1000), ("garbage", SOCKETS, 1000), ("hello", SOCKETS, 200)],
)
def test_a_flood_keeps_no_honest_caller_out(stage: Stage, kind: str, sockets: int, per_second: int) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = client_context(stage.identity("/web"))
    tasks = api.metric("meshproxy_tasks")
    weight = api.resident
    with tls_dial(api.address("api"), web) as before:
        before.sendall(b"hello")
        assert before.recv(5) == b"hello"
        quiet = waits(api, web)
        with flood(api, kind, sockets=sockets, per_second=per_second):
            # The best of three: a machine that is busy with other things makes any of them worse, and none better.
            crowded = min(waits(api, web) for _ in range(3))
            before.sendall(b"still")
            assert before.recv(5) == b"still"
            assert api.get("/ready").status == 200
            assert api.status().listeners[0].open <= 512 + 10
            grown = api.resident - weight
    print(f"{kind}: p99 of a new connection {quiet * 1000:.1f} ms quiet, {crowded * 1000:.1f} ms in the flood; "
          f"memory +{grown / 2**20:.1f} MiB")  # fmt: skip
    assert crowded <= 5 * max(quiet, LEAST)
    assert grown < 64 << 20
    poll(lambda: api.status().listeners[0].open == 0, "all let go")
    assert api.metric("meshproxy_tasks") <= tasks + 10
    limits = api.status().listeners[0].limits_reached
    assert kind == "garbage" or limits.get("max_handshakes", 0) > 0
