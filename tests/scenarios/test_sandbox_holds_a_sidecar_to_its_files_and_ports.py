"""Where the kernel has Landlock a sidecar reaches its own files and ports only; a reload that needs more is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

import meshproxy as meshproxy_package
from meshproxy.runtime import landlock
from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.changes import reload, unix_admin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import PATIENCE, inbound, meshproxy, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

KERNEL = landlock.version()
needs_landlock = pytest.mark.skipif(KERNEL < landlock.PORTS_SINCE, reason=f"the kernel has Landlock {KERNEL}, not 4")
WORKERS = [1, pytest.param(2, marks=pytest.mark.long)]

# What somebody would try who has taken over a process of ours, in the same sandbox: told by its exception, or "done".
INTRUDER = """
import json, os, resource, socket, sys
from pathlib import Path
from meshproxy.runtime.sandbox import enter, harden
from meshproxy.settings.load import load_configuration
harden()
sandbox = enter(load_configuration(Path(sys.argv[1])), workers=1)
def tried(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "done"
def connected(port):
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", port))
def bound(port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
told = json.loads(sys.argv[2])
print(json.dumps({
    "sandbox": str(sandbox),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "privileges": "NoNewPrivs:\\t1" in Path("/proc/self/status").read_text(),
    **{name: tried(lambda: Path(path).read_bytes()) for name, path in told["read"].items()},
    **{name: tried(lambda: os.close(os.open(path, os.O_WRONLY))) for name, path in told["write"].items()},
    **{name: tried(lambda: connected(port)) for name, port in told["connect"].items()},
    **{name: tried(lambda: bound(port)) for name, port in told["bind"].items()},
    "run a program": tried(lambda: os.execv("/bin/true", ["true"])),
    "signal others": tried(lambda: os.kill(os.getppid(), 0)),
    "look up a name": tried(lambda: socket.getaddrinfo("localhost", 1)),
}))
"""


@needs_landlock
def test_an_intruder_finds_nothing_else(stage: Stage) -> None:
    secret = stage.keep(Elsewhere(stage))
    own, foreign = (
        stage.keep(socket.create_server(("127.0.0.1", 0))),
        stage.keep(socket.create_server(("127.0.0.1", 0))),
    )
    listen, other = free_port(), free_port()
    file = stage.configure("api", inbound(forward=f"127.0.0.1:{own.getsockname()[1]}").replace(":0", f":{listen}"))
    key = stage.workspace / "identity-api" / "key.pem"
    asked = {
        "read": {"own key": str(key), "resolver": "/etc/hosts", "others' files": str(secret.file)},
        "write": {
            "change a key": str(key),
            "change a program": meshproxy_package.__file__,
            "others' files too": str(secret.file),
        },
        "connect": {"own service": own.getsockname()[1], "another service": foreign.getsockname()[1]},
        "bind": {"own port": listen, "another port": other},
    }
    done = subprocess.run(
        [sys.executable, "-c", INTRUDER, file, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout) == {
        "sandbox": f"landlock {KERNEL}: files and TCP ports",
        "core": 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1,
        "privileges": True,
        "own key": "done",
        "resolver": "done",
        "others' files": "PermissionError",
        "change a key": "PermissionError",
        "change a program": "PermissionError",
        "others' files too": "PermissionError",
        "own service": "done",
        "another service": "PermissionError",
        "own port": "done",
        "another port": "PermissionError",
        "run a program": "PermissionError",
        "signal others": "PermissionError" if KERNEL >= 6 else "done",
        "look up a name": "done",
    }


class Elsewhere:
    """A directory of somebody else, with a file in it."""

    def __init__(self, stage: Stage) -> None:
        self.folder = stage.workspace.parent / f"{stage.workspace.name}-elsewhere"
        self.file = self.folder / "secret"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self.file.write_text("secret")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)


def told_of(api: Sidecar) -> str:
    answer = reload(api)
    assert answer.status == 422, answer
    return answer.json.text("error")


@needs_landlock
@pytest.mark.parametrize("workers", WORKERS)
def test_a_reload_that_needs_more_is_refused_and_what_fits_is_taken_up(stage: Stage, workers: int) -> None:
    elsewhere, service = stage.keep(Elsewhere(stage)), stage.keep(Service(echo))
    listen, other = free_port(), free_port()
    head = f"[runtime]\nworkers = {workers}\n" + unix_admin("api")
    first = inbound(forward=service.address).replace(":0", f":{listen}")
    api = stage.sidecar("api", head + first)
    identity = stage.workspace / "identity-api"
    assert api.log.event("sandbox").text("held_by") == f"landlock {KERNEL}: files and TCP ports"
    assert api.status().sandbox == f"landlock {KERNEL}: files and TCP ports"
    assert "sandbox     landlock" in meshproxy("status", api.file).stdout

    def change(tables: str) -> None:
        stage.configure("api", head + tables, identity=identity)

    change(first.replace(f":{listen}", f":{other}"))
    assert f"listening on TCP port {other}" in (error := told_of(api))
    assert "restart required" in error
    change(first + outbound(endpoints=[f"127.0.0.1:{other}"]).replace("127.0.0.1:0", "unix:out.sock"))
    assert f"connecting to TCP port {other}" in told_of(api)
    change(first + outbound(endpoints=["127.0.0.1:53"]).replace("127.0.0.1:0", f"unix:{elsewhere.folder}/out.sock"))
    assert f"a unix socket in {elsewhere.folder}" in told_of(api)
    (elsewhere.folder / "list.toml").write_text("allow = []\n")
    change(first.replace("web.allow.toml", str(elsewhere.folder / "list.toml")))
    assert f"files in {elsewhere.folder}" in (error := told_of(api))
    assert "restart required" in error
    change(first.replace("[[inbound]]", '[[inbound]]\nmode = "audit"').replace("\n\n", "\nmax_connections = 5\n\n"))
    assert reload(api).json["result"] == "loaded"
    words = tls_exchange(api.address("api"), client_context(stage.identity("/web")), b"hello")
    assert words == b"hello"


def test_it_can_be_turned_off(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", '[runtime]\nsandbox = "off"\n' + inbound(forward=service.address))
    assert api.status().sandbox == "none"
    assert api.log.event("sandbox").text("held_by") == "none"


@pytest.mark.long
def test_no_core_is_dumped_and_no_privilege_gained(stage: Stage) -> None:
    api = stage.sidecar("api", '[runtime]\nsandbox = "off"\nworkers = 2\n' + inbound(forward="127.0.0.1:9"))
    for pid in api.pids:
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
        assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] in {0, 1}
    assert os.getpid() not in api.pids
