"""Endpoints may be names; one that cannot be resolved is told in words and passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, echo, exchange
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

NOWHERE = "nowhere.invalid:8443"  # RFC 2606: never resolves


def test_endpoint_names_are_looked_up(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    named = f"localhost:{api.address('api').rpartition(':')[2]}"
    web = stage.sidecar("web", outbound(endpoints=[NOWHERE, named], more='connect_timeout = "1s"'))

    assert exchange(web.address("to-api"), b"hello") == b"hello"

    failed = web.log.event("upstream_failed", phase="resolve")
    assert failed["endpoint"] == NOWHERE
    assert failed.text("detail").startswith("cannot resolve nowhere.invalid: ")
    assert web.log.connection(end="clean").upstream.endswith(named.rpartition("localhost")[2])
