"""A CA that was brought back from an old backup knows less than its sidecars, and can make them forget nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.factory import MeshCa, make_mesh_ca
from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, tls_exchange, underneath
from tests.scenarios.changes import unix_admin
from tests.scenarios.stage import inbound, meshproxy, poll
from tests.scenarios.trusting import bring, revoke, run_ca, until_listed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage


@pytest.fixture
def mesh(tmp_path: Path) -> MeshCa:
    return make_mesh_ca(tmp_path)


@pytest.mark.long
def test_neither_an_older_list_nor_that_of_a_ca_that_forgot_lets_anybody_back_in(stage: Stage, tmp_path: Path) -> None:
    stage.write("web.allow.toml", '[[allow]]\nname = "both"\nfrom = ["/web", "/batch"]\n')
    file = stage.configure("api", inbound(forward=stage.keep(Service(echo)).address) + unix_admin("api"))
    directory = stage.workspace / "identity-api"
    web, batch = (client_context(stage.identity(path)) for path in ("/web", "/batch"))
    bring(stage.mesh, directory)
    before = (directory / "trust.json").read_bytes()
    api = stage.run(file)
    backup = tmp_path / "yesterday.tar"
    run_ca(stage.mesh, "backup", "--out", str(backup), "--unsealed")
    assert tls_exchange(api.address("api"), web, b"hello") == b"hello"

    revoke(stage.mesh, "--id", "/web")
    bring(stage.mesh, directory)
    until_listed(api, 1)

    # Somebody brings back the list of before: it is older, and says so.
    (directory / "trust.json").write_bytes(before)
    told = api.log.event("trust_load_failed")
    assert "its deny-list: it is older (number" in told.text("error")
    assert "older" in meshproxy("status", file).stdout

    # The CA comes back from its backup, and nobody gave it the deny-list: its new one is newer, and says less.
    restored = replace(stage.mesh, directory=tmp_path / "restored")
    done = meshproxy("ca", "restore", backup, "--without-deny-list", "--dir", restored.directory)
    assert done.returncode == 0, done.stderr
    run_ca(restored, "publish")
    bring(restored, directory)
    poll(lambda: api.metric("meshproxy_deny_list_sequence") > 1_000_000, "the restored CA's list is followed")
    assert api.metric("meshproxy_deny_list_entries") == 1
    with tls_dial(api.address("api"), web) as late:
        assert underneath(late) == (b"", Ended.RESET)
    assert tls_exchange(api.address("api"), batch, b"hello") == b"hello"
    shutil.rmtree(restored.directory)
