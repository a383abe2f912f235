"""Both sidecars of a pair get new certificates, again and again, and not one request fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.changes import Load, allow, until_identity
from tests.scenarios.http_actors import Origin, fingerprints, mesh_pair, mtls_caller

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

ROUNDS = 2


@pytest.mark.long
def test_no_request_fails(stage: Stage) -> None:
    allow(stage, "/web", more='paths = "/orders"')
    pair = mesh_pair(stage, stage.keep(Origin(fingerprints)))
    context = client_context(stage.mesh.issue("/web", into=stage.workspace / "another-web"))
    serials = set()
    with (
        Load(pair.caller, clients=10) as kept_alive,
        Load(pair.caller, clients=4, per_connection=1) as newcomers,
        Load(lambda: mtls_caller(pair.api, context), clients=2, per_connection=2) as without_sidecar,
    ):
        for generation in range(2, 2 + ROUNDS):
            for path, sidecar in (("/web", pair.web), ("/api", pair.api)):
                stage.identity(path)
                until_identity(sidecar, generation)
                serials.add(sidecar.status().identity.serial)
            for load in (kept_alive, newcomers, without_sidecar):
                load.wait_for(10)

    kept_alive.judge(at_least=100)
    newcomers.judge(at_least=30)
    without_sidecar.judge(at_least=10)
    assert kept_alive.told_to_close == 0
    assert len(serials) == 2 * ROUNDS
