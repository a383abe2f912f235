"""An allow-list may be put in place by a rename, as careful tools do, or through links, as Kubernetes does."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.changes import allow_list, unix_admin, until_generation
from tests.scenarios.http_actors import Origin
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage


def rule(sidecar: Sidecar) -> str:
    """The hash of the allow-list in force."""
    [listener] = sidecar.status().listeners
    assert listener.policy is not None
    return listener.policy.hash


def test_a_rename_over_it_is_taken_up(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Origin()).address))
    before = rule(api)

    stage.write("web.allow.toml.new", allow_list("/batch")).rename(stage.workspace / "web.allow.toml")

    until_generation(api, 2)
    assert rule(api) != before


def mount(volume: Path, number: int, *callers: str) -> None:
    """What the kubelet does with a ConfigMap: a new directory, and one rename that swaps the link to it."""
    data = volume / f"..2026_11_22_10_00_0{number}.123"
    data.mkdir(parents=True)
    (data / "web.allow.toml").write_text(allow_list(*callers))
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")


@pytest.mark.long
def test_a_kubernetes_volume_is_followed(stage: Stage) -> None:
    volume = stage.workspace / "config"
    mount(volume, 1, "/web")
    (volume / "web.allow.toml").symlink_to("..data/web.allow.toml")
    api = stage.sidecar(
        "api",
        unix_admin("api") + inbound(forward=stage.keep(Origin()).address, policy="config/web.allow.toml"),
    )
    hashes = {rule(api)}

    for number, caller in enumerate(("/batch", "/web", "/orders"), 2):
        old = (volume / "..data").resolve()
        mount(volume, number, caller)
        shutil.rmtree(old)
        until_generation(api, number)
        hashes.add(rule(api))

    assert len(hashes) == 3  # the third is the first again
    assert api.log.seen("reload_failed") == []
