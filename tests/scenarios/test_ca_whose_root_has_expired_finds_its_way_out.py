"""The root has expired, and all with it: a new one is prepared, activated and serves; who enrols anew is let in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ca import founding
from tests.scenarios.authority import CaServer, unhurried
from tests.scenarios.stage import meshproxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage

AGO = timedelta(days=3)


def test_three_commands_and_new_tokens_and_no_force(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "expired"
    made = founding.initialise(
        home,
        stage.mesh.trust_domain,
        passphrase=None,
        now=datetime.now(UTC) - AGO,
        root_ttl=timedelta(days=2),
        intermediate_ttl=timedelta(days=2),
    )
    mesh: MeshCa = replace(stage.mesh, directory=home, authority=made)
    unhurried(home)
    doctor = meshproxy("ca", "doctor", "--dir", home)
    assert (doctor.returncode, "expired" in doctor.stdout + doctor.stderr) == (1, True)

    for step in ("prepare", "activate", "retire"):
        more = ("--root-ttl", "3650d", "--intermediate-ttl", "365d") if step == "prepare" else ()
        done = meshproxy("ca", "rotate", step, "--what", "root", *more, "--dir", home)
        assert done.returncode == 0, done.stderr

    ca = stage.look_after(CaServer(mesh))
    web = ca.client()
    assert web.enrol(ca.token("/web")).status == 200
    assert web.renew().status == 200
    assert meshproxy("ca", "log", "verify", "--dir", home).returncode == 0
