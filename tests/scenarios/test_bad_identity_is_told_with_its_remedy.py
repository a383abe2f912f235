"""What can be wrong with key, chain and bundle: `check` and `run` name the file and the remedy; nothing is started."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ca import keys
from tests.scenarios.stage import inbound, meshproxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.factory import Identity, MeshCa
    from tests.scenarios.stage import Stage

    Harm = Callable[[Identity, MeshCa], None]


def a_key_for_all_to_read(api: Identity, _foreign: MeshCa) -> None:
    api.key.chmod(0o644)


def another_key(api: Identity, foreign: MeshCa) -> None:
    api.key.write_bytes(foreign.issue("/api").key.read_bytes())


def half_a_key(api: Identity, _foreign: MeshCa) -> None:
    api.key.write_bytes(api.key.read_bytes()[:100])


def a_sealed_key(api: Identity, _foreign: MeshCa) -> None:
    api.key.write_bytes(keys.to_pem(keys.generate(), passphrase=b"correct horse"))


def a_leaf_for_a_bundle(api: Identity, _foreign: MeshCa) -> None:
    shutil.copyfile(api.chain, api.bundle)


def another_root(api: Identity, foreign: MeshCa) -> None:
    api.bundle.write_bytes(foreign.issue("/api").bundle.read_bytes())


def no_intermediate(api: Identity, _foreign: MeshCa) -> None:
    end = "-----END CERTIFICATE-----\n"
    api.chain.write_text(api.chain.read_text().partition(end)[0] + end)


def a_bundle_for_all_to_write(api: Identity, _foreign: MeshCa) -> None:
    api.bundle.chmod(0o666)


HARMS = [
    (a_key_for_all_to_read, "key.pem", "chmod 600"),
    (another_key, "key.pem", "does not belong to the first certificate of chain.pem"),
    (half_a_key, "key.pem", "meshproxy ca issue"),
    (a_sealed_key, "key.pem", "passphrase_file ="),
    (a_leaf_for_a_bundle, "bundle.pem", "root"),
    (another_root, "chain.pem", "root of bundle.pem"),
    (no_intermediate, "chain.pem", "leads from the leaf to a root"),
    (a_bundle_for_all_to_write, "bundle.pem", "chmod go-w"),
]


@pytest.mark.parametrize(("do_harm", "file", "words"), HARMS, ids=[harm.__name__ for harm, _, _ in HARMS])
def test_bad_identity_is_told_with_its_remedy(
    stage: Stage, foreign: MeshCa, do_harm: Harm, file: str, words: str
) -> None:
    api = stage.identity("/api")
    settings = stage.configure("sidecar", inbound(forward="127.0.0.1:8080"), identity=api.directory)
    do_harm(api, foreign)

    with ThreadPoolExecutor() as both:
        checked, ran = both.map(lambda verb: meshproxy(verb, settings), ("check", "run"))

    assert (checked.returncode, ran.returncode) == (1, 1)
    for said in (checked.stderr, ran.stderr):
        assert f"{api.directory / file}: found " in said
        assert words in said
        assert "PRIVATE" not in said
        assert "Traceback" not in said
    assert '"event":"started"' not in ran.stderr.replace(" ", "")
    assert ran.stderr.endswith("; nothing was started\n")


def test_a_wrong_passphrase_is_told_without_telling_it(stage: Stage) -> None:
    api = stage.identity("/api")
    a_sealed_key(api, stage.mesh)
    secret = stage.write("passphrase", "battery staple\n")
    secret.chmod(0o600)
    settings = stage.configure("sidecar", inbound(forward="127.0.0.1:8080"), identity=api.directory)
    settings.write_text(settings.read_text().replace("[admin]", f'passphrase_file = "{secret}"\n[admin]', 1))

    checked = meshproxy("check", settings)

    assert checked.returncode == 1
    assert f"{api.key}: found " in checked.stderr
    assert "passphrase" in checked.stderr
    assert "battery" not in checked.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_key_is_told(stage: Stage) -> None:
    api = stage.identity("/api")
    api.key.chmod(0)
    settings = stage.configure("sidecar", inbound(forward="127.0.0.1:8080"), identity=api.directory)

    checked = meshproxy("check", settings)

    assert checked.returncode == 1
    assert "it cannot be read (Permission denied)" in checked.stderr
