"""Identity, and settings with allow-lists, are taken up each by itself: what is broken of one holds up nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, exchange, tls_dial
from tests.scenarios.changes import allow, reload, reload_changes, unix_admin, until_identity
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage


def start(stage: Stage) -> tuple[Sidecar, Sidecar]:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", unix_admin("api") + inbound(forward=service.address))
    return api, stage.sidecar("web", outbound(endpoints=[api.address("api")]))


def test_a_certificate_is_renewed_while_the_allow_list_is_broken(stage: Stage) -> None:
    api, web = start(stage)
    stage.write("web.allow.toml", "nonsense")
    assert reload(api).status == 422

    renewed = stage.identity("/api")
    until_identity(api, 2)

    context = client_context(stage.identity("/web"), trusting=renewed)
    with tls_dial(api.address("api"), context) as caller:
        assert caller.getpeercert(binary_form=True) == renewed.der
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    status = api.status()
    assert (status.configuration.generation, status.identity.last_error) == (1, "")
    assert "web.allow.toml" in status.configuration.last_error


def test_an_allow_list_is_taken_up_while_the_certificate_is_broken(stage: Stage) -> None:
    api, web = start(stage)
    chain = stage.workspace / "identity-api/current/chain.pem"
    chain.write_text("half a certif")
    api.everywhere("identity_load_failed")

    allow(stage, "/web", "/batch")
    reload_changes(api)

    status = api.status()
    assert (status.configuration.generation, status.configuration.last_error) == (2, "")
    assert (status.identity.generation, status.identity.last_error != "") == (1, True)
    assert exchange(web.address("to-api"), b"hello") == b"hello"


def test_a_renewal_with_a_mismatched_pair_changes_nothing_until_the_other_half_comes(stage: Stage) -> None:
    """A flat directory, whose files are written one by one."""
    flat = stage.workspace / "flat"
    flat.mkdir(mode=0o700)
    first, second = (stage.mesh.issue("/api", into=stage.workspace / f"issued-{number}") for number in (1, 2))
    for file in (first.key, first.chain, first.bundle):
        shutil.copy(file, flat / file.name)
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address), identity=flat)
    context = client_context(stage.identity("/web"))

    shutil.copy(second.key, flat / "key.pem")
    failed = api.everywhere("identity_load_failed")
    assert "does not belong to the first certificate" in failed.text("error")
    with tls_dial(api.address("api"), context) as caller:
        assert caller.getpeercert(binary_form=True) == first.der
    assert api.status().identity.ready

    shutil.copy(second.chain, flat / "chain.pem")
    until_identity(api, 2)
    with tls_dial(api.address("api"), context) as caller:
        assert caller.getpeercert(binary_form=True) == second.der
    assert api.status().identity.last_error == ""
