"""A mesh for the session, a stage for each test, and one for a whole file where tests do not disturb each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factory import MeshCa, make_mesh_ca
from tests.scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    """Another CA with the very same names."""
    return make_mesh_ca(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, mesh: MeshCa) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), mesh) as made:
        yield made


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory, mesh: MeshCa) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), mesh) as made:
        yield made
