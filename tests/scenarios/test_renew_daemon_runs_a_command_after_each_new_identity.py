"""`renew --daemon --exec` keeps an identity alive for a foreign program, and tells it each time until it listens."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from meshproxy.identity.material import read_material
from meshproxy.settings.schema import IdentitySettings
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.enrolled import invite, leaves_of, put
from tests.scenarios.stage import Sidecar, meshproxy, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

LIFE = 12


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage, configure=leaves_of(seconds=LIFE))


def enroll(stage: Stage, ca: CaServer, name: str) -> Path:
    out = stage.workspace / name
    done = meshproxy("enroll", "--token-file", put(stage.workspace / "t", invite(ca, f"/{name}")), "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.long
def test_the_command_runs_after_each_renewal(shared_stage: Stage, ca: CaServer) -> None:
    out = enroll(shared_stage, ca, "nginx")
    told = shared_stage.workspace / "told"
    script = shared_stage.write("reload.sh", f'#!/bin/sh\nreadlink "{out}/current" >> "{told}"\n')
    script.chmod(0o755)
    daemon = shared_stage.look_after(Sidecar(out, "renew", "--dir", out, "--daemon", "--exec", f"'{script}'"))
    poll(lambda: told.exists() and len(set(told.read_text().split())) >= 3, "three generations told", within=6 * LIFE)
    assert daemon.log.seen("identity_renewed")
    assert read_material(IdentitySettings(out)).leaf.id == ca.mesh.id("/nginx")
    daemon.signal(signal.SIGTERM)
    assert daemon.exit_code() == 0


@pytest.mark.long
def test_a_command_that_fails_is_told_and_run_again(shared_stage: Stage, ca: CaServer) -> None:
    out = enroll(shared_stage, ca, "postgres")
    marker = shared_stage.workspace / "repaired"
    daemon = shared_stage.look_after(Sidecar(out, "renew", "--dir", out, "--daemon", "--exec", f"test -e '{marker}'"))
    failed = daemon.log.event("command_failed")
    assert failed.text("error") == "it ended with 1"
    marker.touch()
    daemon.log.event("command_run")
    daemon.signal(signal.SIGTERM)
    assert daemon.exit_code() == 0


def test_renewing_once(stage: Stage) -> None:
    ca = serve(stage)
    out = enroll(stage, ca, "once")
    first = (out / "current").readlink()
    early = meshproxy("renew", "--dir", out, "--expires-in", "1s")
    assert (early.returncode, early.stdout[:7]) == (0, "not due")
    assert (out / "current").readlink() == first
    done = meshproxy("renew", "--dir", out, "--force", "--exec", "false")
    assert done.returncode == 1
    assert "the identity is renewed, but false: it ended with 1" in done.stderr
    assert (out / "current").readlink() != first
    again = meshproxy("renew", "--dir", out, "--force", "--json")
    told = json.loads(again.stdout)
    assert (told["id"], told["renewed"], told["bundle"]) == (str(ca.mesh.id("/once")), True, 1)
    of_files = ca.mesh.issue("/files", into=stage.workspace / "files").directory
    unknown = meshproxy("renew", "--dir", of_files, "--daemon")
    assert (unknown.returncode, "--ca HOST:PORT" in unknown.stderr) == (2, True)
    nobody = meshproxy("renew", "--dir", stage.workspace / "nobody")
    assert nobody.returncode == 2
    assert "meshproxy enroll" in nobody.stderr
