"""A CA that comes back from yesterday's backup: nothing is un-revoked, and what it does not know is not renewed."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.authority import CaServer, serve
from tests.scenarios.stage import meshproxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage


@pytest.mark.long
def test_it_knows_that_the_world_went_on(stage: Stage, tmp_path: Path) -> None:
    ca = serve(stage)
    early, revoked, late = ca.client(), ca.client(), ca.client()
    assert early.enrol(ca.token("/early")).status == 200
    assert revoked.enrol(ca.token("/revoked")).status == 200
    unused = ca.token("/unused")
    ca.run("backup", "--out", tmp_path / "yesterday.tar", "--unsealed")

    assert late.enrol(ca.token("/late")).status == 200
    ca.run("revoke", "--id", "/revoked", "--reason", "keyCompromise")
    (tmp_path / "denylist.json").write_bytes((ca.directory / "trust/denylist.json").read_bytes())
    ca.signal(signal.SIGTERM)
    assert ca.exit_code() == 0

    home = tmp_path / "restored"
    backup, known = tmp_path / "yesterday.tar", tmp_path / "denylist.json"
    done = meshproxy("ca", "restore", backup, "--deny-list", known, "--dir", home)
    assert done.returncode == 0, done.stderr
    restored = stage.look_after(CaServer(replace(ca.mesh, directory=home)))
    for client in (early, revoked, late):
        client.address = restored.listens

    assert early.renew().status == 200
    said = late.renew()
    assert (said.status, said.why) == (403, "unknown_certificate")
    restored.log.event("alert", why="unknown_certificate")
    said = revoked.renew()
    assert (said.status, said.why) == (403, "revoked")
    assert restored.client().enrol(unused).why == "token_revoked"  # it may have been used since
    again = restored.client()
    assert again.enrol(restored.token("/late")).status == 200
