"""A served CA renews its own certificate and its intermediate by itself, and says what it cannot do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.factory import make_mesh_ca
from tests.scenarios.authority import CaServer, serve, unhurried
from tests.scenarios.programs import free_port
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage


def short_lived(directory: Path) -> None:
    file = directory / "ca.toml"
    text = file.read_text().replace("default_seconds = 86400", "default_seconds = 12")
    text = text.replace("minimum_seconds = 300", "minimum_seconds = 10\nunsafe_short_leaves = true")
    file.write_text(text)


@pytest.mark.long
def test_its_own_certificate_outlives_its_life_twice(stage: Stage) -> None:
    ca = serve(stage, configure=short_lived)
    assert ca.client().enrol(ca.token("/web")).status == 200
    poll(lambda: len(ca.log.seen("own_leaf_issued")) >= 5, "it renews itself", within=60)
    assert ca.client().trust().status == 200  # the handshake took its certificate of now
    assert len({each.text("serial") for each in ca.log.seen("own_leaf_issued")}) >= 5
    assert ca.get("/ready").status == 200


def ageing(stage: Stage) -> MeshCa:
    """A CA whose intermediate has lived four fifths of its life."""
    made = datetime.now(UTC) - timedelta(days=24)
    mesh = make_mesh_ca(stage.workspace / "own", made=made, intermediate_ttl=timedelta(days=30))
    unhurried(mesh.directory)
    return mesh


@pytest.mark.long
def test_its_intermediate_is_replaced_at_two_thirds_of_its_life(stage: Stage) -> None:
    mesh = ageing(stage)
    ca = stage.look_after(CaServer(mesh))
    ca.log.event("intermediate_replaced")
    web = ca.client()
    assert web.enrol(ca.token("/web")).status == 200
    assert web.leaf_issuer != mesh.authority.intermediate.subject.rfc4514_string()
    left = ca.metric("meshproxy_certificate_expiry_seconds", certificate="intermediate")
    assert left > timedelta(days=29).total_seconds()
    assert web.renew().status == 200


@pytest.mark.long
def test_it_says_that_it_cannot_when_the_roots_key_is_elsewhere(stage: Stage) -> None:
    mesh = ageing(stage)
    for key in mesh.directory.glob("authorities/*/root.key"):
        key.unlink()
    ca = stage.look_after(CaServer(mesh))
    failing = ca.log.event("failing", what="intermediate")
    assert "the key of the active root is not here" in failing.text("detail")
    assert ca.client().enrol(ca.token("/web")).status == 200  # and goes on meanwhile
    assert ca.status_json["failing"] == ["intermediate"]
    assert ca.metric("meshproxy_ca_failing", what="intermediate") == 1


@pytest.mark.long
def test_what_keeps_it_from_starting_is_one_sentence(stage: Stage) -> None:
    mesh = make_mesh_ca(stage.workspace / "own")
    port = free_port()

    def said(code: int, *arguments: str | Path, directory: Path = mesh.directory) -> str:
        admin = () if "--admin" in arguments else ("--admin", "127.0.0.1:0")
        done = meshproxy("ca", "serve", "--dir", directory, *admin, *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    busy = stage.look_after(CaServer(mesh, "--listen", f"127.0.0.1:{port}"))
    other = make_mesh_ca(stage.workspace / "other").directory
    assert "the address is in use" in said(1, "--listen", busy.listens, directory=other)
    assert "holds no CA" in said(2, "--listen", "127.0.0.1:0", directory=stage.workspace)
    assert "can be reached from elsewhere" in said(2, "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:9910")
    assert "expected host:port" in said(2, "--listen", "unix:/run/ca.sock")
    assert "expected host:port" in said(2, "--listen", "nowhere")
    assert "--name" in said(2, "--listen", "127.0.0.1:0", "--name", "not a name")
    slot = next(each.name for each in (other / "authorities").iterdir())
    tainted = meshproxy("ca", "rotate", "taint", "--what", "intermediate", "--slot", slot, "--force", "--dir", other)
    assert tainted.returncode == 0
    assert "holds no active intermediate" in said(2, "--listen", "127.0.0.1:0", directory=other)
