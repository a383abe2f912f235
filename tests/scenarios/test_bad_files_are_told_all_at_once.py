"""Every fault of every file a sidecar would load is told in one go, with its line and a remedy; nothing is started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.scenarios.stage import inbound, meshproxy, outbound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

SIDECAR = """\
[identity]
dir = "identity-api"

[limits]
idle_timout = "5m"
connect_timeout = 5

[[inbound]]
name = "api"
listen = "127.0.0.1:0"
forward = "10.0.0.1:8080"
protocol = "tcp"
policy = "bad.allow.toml"

[[inbound]]
name = "api"
listen = "127.0.0.1:0"
forward = "127.0.0.1:8081"
protocol = "grpc"
policy = "missing.allow.toml"

[[inbound]]
name = "nobody"
listen = "127.0.0.1:0"
forward = "127.0.0.1:8081"
protocol = "tcp"
policy = "empty.allow.toml"

[[outbound]]
name = "ledger"
listen = "0.0.0.0:7001"
to = "/ledger/../admin"
endpoints = ["10.0.0.7:0"]
protocol = "tcp"
"""

ALLOW_LIST = """\
[[allow]]
from = ["/web", "/batch*"]
methods = ["POST"]
"""

# Where each fault is, and a word of what is found or to be done.
FAULTS = [
    ("sidecar.toml", 5, "Did you mean `idle_timeout`?"),
    ("sidecar.toml", 6, 'connect_timeout = "5s"'),
    ("sidecar.toml", 11, "10.0.0.1:8080, which reaches beyond this machine"),
    ("sidecar.toml", 16, "which inbound[0].name on line 9 has"),
    ("sidecar.toml", 19, '"http" or "tcp"'),
    ("sidecar.toml", 20, "missing.allow.toml"),
    ("sidecar.toml", 31, "0.0.0.0:7001, which reaches beyond this machine"),
    ("sidecar.toml", 32, "a path segment . or .. is not allowed"),
    ("sidecar.toml", 33, "nobody can be reached on port 0"),
    ("bad.allow.toml", 2, "only as a whole segment"),
    ("bad.allow.toml", 3, 'has protocol = "tcp" and sees no requests'),
    ("empty.allow.toml", 1, "allow = []"),
    ("identity-api/key.pem", None, "readable by everyone"),
]


def bad_files(stage: Stage) -> Path:
    stage.identity("/api").key.chmod(0o644)
    stage.write("bad.allow.toml", ALLOW_LIST)
    stage.write("empty.allow.toml", "")
    return stage.write("sidecar.toml", SIDECAR)


def test_check_tells_every_fault_of_every_file(stage: Stage) -> None:
    checked = meshproxy("check", "--json", bad_files(stage))

    assert checked.returncode == 1
    problems = json.loads(checked.stdout)["problems"]
    for file, line, words in FAULTS:
        [found] = [p for p in problems if p["file"].endswith(f"/{file}") and p["line"] == line]
        assert words in f"{found['found']}; {found['expected']}; {found['remedy']}"
        assert found["found"]
        assert found["expected"]
        assert found["remedy"]
    assert len(problems) == len(FAULTS)


def test_run_tells_them_too_and_starts_nothing(stage: Stage) -> None:
    ran = meshproxy("run", bad_files(stage))

    assert ran.returncode == 1
    for file, line, _ in FAULTS:
        assert f"/{file}: " in ran.stderr if line is None else f"/{file}:{line}: " in ran.stderr
    assert ran.stderr.count("\n    expected  ") == ran.stderr.count("\n    remedy    ") == len(FAULTS)
    assert ran.stderr.endswith(f"meshproxy: {len(FAULTS)} problems; nothing was started\n")
    assert "started" not in ran.stderr.replace("nothing was started", "")
    assert "Traceback" not in ran.stderr


def test_check_may_be_used_beside_the_running_sidecar(stage: Stage) -> None:
    """It binds nothing: the very addresses may be in use."""
    tables = inbound(forward="127.0.0.1:8080") + outbound(endpoints=["127.0.0.1:9"])
    api = stage.sidecar("api", tables)
    file = api.file.read_text().replace("127.0.0.1:0", api.admin, 1).replace("127.0.0.1:0", api.address("api"), 1)

    checked = meshproxy("check", stage.write("api.toml", file))

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[0] == f"sound: {api.file} as spiffe://mesh.test/api"
