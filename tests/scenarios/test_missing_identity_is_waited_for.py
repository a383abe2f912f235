"""Without an identity the sidecar is up and refuses, says what to do, and heals when one appears; no restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, client_context, echo, listen_to, tls_exchange
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_missing_identity_is_waited_for(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    directory = stage.workspace / "not-issued-yet"
    tables = inbound(forward=service.address) + outbound(endpoints=["127.0.0.1:9"])
    api = stage.sidecar("api", tables, identity=directory)

    assert api.get("/live").status == 200
    ready = api.get("/ready")
    assert (ready.status, ready.json) == (503, {"ready": False, "state": "refusing"})
    told = api.everywhere("identity_not_ready")
    assert told["reason"] == f"there is no identity in {directory}"
    assert f"meshproxy ca issue /PATH --dir CA_DIR --out {directory}" in told.text("remedy")
    for listener in ("api", "to-api"):
        assert listen_to(api.address(listener)) == (b"", Ended.RESET)
        assert api.log.event("connection_refused", listener=listener)["reason"] == "identity_not_ready"
    status = api.status()
    assert (status.state, status.identity.ready, status.identity.id) == ("refusing", False, "")
    assert status.identity.remedy == told["remedy"]
    assert api.metric("meshproxy_identity_ready") == 0

    stage.mesh.issue("/api", into=directory)

    poll(lambda: api.get("/ready").status == 200, "ready once the identity is there")
    assert api.everywhere("identity_loaded")["id"] == "spiffe://mesh.test/api"
    assert tls_exchange(api.address("api"), client_context(stage.identity("/web")), b"hello") == b"hello"
