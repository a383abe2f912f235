"""A renewed certificate is used for new connections within seconds; those that are open go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_renewed_identity_is_taken_up_without_a_restart(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    old = stage.identity("/api")
    before = old.der
    api = stage.sidecar("api", inbound(forward=service.address), identity=old.directory)
    context = client_context(stage.identity("/web"))

    with tls_dial(api.address("api"), context) as open_one:
        assert open_one.getpeercert(binary_form=True) == before
        renewed = stage.mesh.issue("/api", into=old.directory)
        poll(lambda: api.status().identity.generation == 2, "the renewed identity is taken up")
        with tls_dial(api.address("api"), context) as new_one:
            assert new_one.getpeercert(binary_form=True) == renewed.der != before
        open_one.sendall(b"still here")
        assert open_one.recv(10) == b"still here"
