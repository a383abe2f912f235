"""Whatever is written over the identity of a running sidecar: a faulty one is told, and the good one serves on."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage


def garbage(_mesh: MeshCa, directory: Path) -> None:
    (directory / "current" / "chain.pem").write_text("half a certif")


def anothers_key(mesh: MeshCa, directory: Path) -> None:
    other = mesh.issue("/other", into=directory.parent / "other")
    shutil.copyfile(other.key, directory / "current" / "key.pem")


def another_name(mesh: MeshCa, directory: Path) -> None:
    mesh.issue("/other", into=directory)


def key_for_all_to_read(_mesh: MeshCa, directory: Path) -> None:
    (directory / "current" / "key.pem").chmod(0o644)


def gone(_mesh: MeshCa, directory: Path) -> None:
    (directory / "current").unlink()


@pytest.mark.parametrize(
    ("do_harm", "told"),
    [
        (garbage, "chain.pem"),
        (anothers_key, "does not belong to the first certificate"),
        (another_name, "spiffe://mesh.test/other"),
        (key_for_all_to_read, "key.pem"),
        (gone, "lacks key.pem and chain.pem and bundle.pem"),
    ],
    ids=["garbage", "anothers-key", "another-name", "key-for-all-to-read", "gone"],
)
def test_faulty_identity_never_replaces_a_good_one(
    stage: Stage, do_harm: Callable[[MeshCa, Path], None], told: str
) -> None:
    service = stage.keep(Service(echo))
    directory = stage.workspace / "api"
    stage.mesh.issue("/api", into=directory)
    api = stage.sidecar("api", inbound(forward=service.address), identity=directory)
    web = client_context(stage.identity("/web"))
    serial = api.status().identity.serial

    do_harm(stage.mesh, directory)
    api.signal(signal.SIGHUP)

    failed = api.everywhere("identity_load_failed")
    assert told in failed.text("error")
    assert failed["kept_the_old_one"] is True
    identity = api.status().identity
    assert told in identity.last_error
    assert (identity.ready, identity.serial, identity.generation) == (True, serial, 1)
    assert tls_exchange(api.address("api"), web, b"hello") == b"hello"

    stage.mesh.issue("/api", into=directory)
    api.signal(signal.SIGHUP)
    poll(lambda: api.status().identity.generation == 2, "the renewed identity is taken up")
    assert api.status().identity.last_error == ""
    assert tls_exchange(api.address("api"), web, b"hello") == b"hello"
