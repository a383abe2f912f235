"""A caller whose identity the allow-list names is served, and both ends say who it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, echo, exchange
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_listed_identity_is_served(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    assert exchange(web.address("to-api"), b"hello") == b"hello"

    served = api.log.connection(end="clean")
    assert served.caller == "spiffe://mesh.test/web"
    assert (served.decision, served.rule, served.reason, served.mode) == ("allow", "web-calls", "granted", "enforce")
    assert served.policy.endswith("web.allow.toml@1")
    assert (served.bytes_in, served.bytes_out) == (5, 5)
    assert served.upstream == service.address
    assert served.duration_ms > 0
    asked = web.log.connection(end="clean")
    assert asked.upstream_id == "spiffe://mesh.test/api"
    assert (asked.bytes_in, asked.bytes_out) == (5, 5)
    assert asked.upstream == api.address("api")
