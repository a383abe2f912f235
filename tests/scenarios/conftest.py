"""A mesh for the session, a stage for each test, and one for a whole file where tests do not disturb each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factory import MeshCa, make_mesh_ca
from tests.scenarios.http_actors import Origin, Pair, mesh_pair
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


@pytest.fixture(scope="module")
def shared_origin(shared_stage: Stage) -> Origin:
    return shared_stage.keep(Origin())


@pytest.fixture(scope="module")
def shared_pair(request: pytest.FixtureRequest, shared_stage: Stage, shared_origin: Origin) -> Pair:
    """Two sidecars in HTTP mode for a whole file; it may say ALLOW, API and WEB: the allow-list, and more keys."""
    told = {key: getattr(request.module, name, "") for key, name in _TOLD.items()}
    return mesh_pair(shared_stage, shared_origin, **told)


_TOLD = {"allow": "ALLOW", "api_more": "API", "web_more": "WEB"}


@pytest.fixture
def pair(shared_pair: Pair, shared_origin: Origin) -> Pair:
    """The file's two sidecars, with nothing left over from the test before."""
    shared_origin.start_over()
    shared_pair.turn_pages()
    shared_origin.start_over()
    return shared_pair


@pytest.fixture
def origin(pair: Pair, shared_origin: Origin) -> Origin:
    return shared_origin
