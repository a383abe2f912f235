"""`meshproxy wait-ready` lets start what depends on a sidecar: it succeeds when that serves, and else says why not."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.scenarios.changes import unix_admin
from tests.scenarios.stage import PATIENCE, command, inbound, meshproxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

TABLES = unix_admin("api") + inbound(forward="127.0.0.1:9")


def waiting(file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("wait-ready", file, "--timeout", f"{PATIENCE:g}s"), stderr=subprocess.PIPE, text=True
    )


def test_it_succeeds_when_the_sidecar_comes_up(stage: Stage) -> None:
    with waiting(stage.configure("api", TABLES)) as early:
        stage.sidecar("api", TABLES)
        assert early.communicate(timeout=PATIENCE)[1] == ""
    assert early.returncode == 0


def test_it_waits_for_an_identity_to_come(stage: Stage) -> None:
    directory = stage.workspace / "to-come"
    api = stage.sidecar("api", TABLES, identity=directory)
    said = meshproxy("wait-ready", api.file, "--timeout", "300ms")
    assert said.returncode == 1
    assert f"not ready after 300ms: it is refusing: there is no identity in {directory}" in said.stderr

    with waiting(api.file) as waits:
        stage.mesh.issue("/api", into=directory)
        assert waits.communicate(timeout=PATIENCE)[1] == ""
    assert waits.returncode == 0


def test_it_says_that_nobody_answers(stage: Stage) -> None:
    file = stage.configure("api", TABLES)
    said = meshproxy("wait-ready", file, "--timeout", "200ms")
    assert said.returncode == 1
    assert "not ready after 200ms: no sidecar answers at unix:" in said.stderr
    assert f"start it with: meshproxy run {file}" in said.stderr


def test_it_refuses_a_timeout_that_is_none(stage: Stage) -> None:
    said = meshproxy("wait-ready", stage.configure("api", TABLES), "--timeout", "soon")
    assert said.returncode == 2
    assert "'soon'" in said.stderr
