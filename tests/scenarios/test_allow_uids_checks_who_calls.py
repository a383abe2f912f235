"""A unix listener with `allow_uids` asks the kernel who is calling, and serves only those it names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, echo, exchange, listen_to
from tests.scenarios.stage import PATIENCE, inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

STRANGER = 65_534  # nobody, on every Debian

CALL = """
import os, socket, sys
uid, path = int(sys.argv[1]), sys.argv[2]
os.setgroups([]), os.setgid(uid), os.setuid(uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    sock.connect(path)
    try:
        sock.sendall(b"hello")
        print(sock.recv(5).decode() or "turned away")
    except ConnectionError:
        print("turned away")
"""


def pair(stage: Stage, path: Path, uids: list[int]) -> Sidecar:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    tables = outbound(endpoints=[api.address("api")], more=f"allow_uids = {uids}")
    return stage.sidecar("web", tables.replace("127.0.0.1:0", f"unix:{path}"))


def call_as(uid: int, path: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", CALL, str(uid), str(path)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return ran.stdout.strip()


def test_a_user_who_is_named_is_served(stage: Stage) -> None:
    web = pair(stage, stage.workspace / "door", [os.getuid()])

    assert exchange(web.address("to-api"), b"hello") == b"hello"


def test_a_user_who_is_not_named_is_turned_away(stage: Stage) -> None:
    web = pair(stage, stage.workspace / "door", [os.getuid() + 1])

    assert listen_to(web.address("to-api")) == (b"", Ended.EOF)  # a unix socket knows no RST

    refused = web.log.event("connection_refused", reason="uid")
    assert refused["remedy"] == f"user {os.getuid()} may not use this socket; allow_uids has [{os.getuid() + 1}]"
    assert web.metric("meshproxy_connections_refused_total", listener="to-api", reason="uid") == 1
    assert web.log.seen("connection") == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can call as somebody else")
def test_another_user_is_told_apart_by_the_kernel(stage: Stage) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        path = Path(place) / "door"
        web = pair(stage, path, [STRANGER])

        assert call_as(STRANGER, path) == "hello"
        assert call_as(STRANGER - 1, path) == "turned away"
        assert listen_to(web.address("to-api")) == (b"", Ended.EOF)
