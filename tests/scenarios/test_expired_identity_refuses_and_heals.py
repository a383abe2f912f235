"""With an expired certificate of its own the sidecar is up, not ready, refusing; a renewed one heals it."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, listen_to, tls_exchange
from tests.scenarios.stage import LONGER_START, inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.mark.parametrize(
    ("word", "reason", "remedy"),
    [
        ("expired", "our certificate for spiffe://mesh.test/api expired at ", "meshproxy ca issue /api --dir CA_DIR"),
        ("not_yet_valid", "our certificate for spiffe://mesh.test/api is valid only from ", "clock"),
    ],
)
def test_a_certificate_out_of_time_at_start(stage: Stage, word: str, reason: str, remedy: str) -> None:
    service = stage.keep(Service(echo))
    directory = stage.workspace / "api"
    stage.mesh.issue("/api", into=directory, expired=word == "expired", not_yet_valid=word == "not_yet_valid")
    api = stage.sidecar("api", inbound(forward=service.address), identity=directory)

    assert api.get("/live").status == 200
    assert api.get("/ready").status == 503
    told = api.everywhere("identity_not_ready")
    assert told.text("reason").startswith(reason)
    assert remedy in told.text("remedy")
    assert listen_to(api.address("api")) == (b"", Ended.RESET)

    stage.mesh.issue("/api", into=directory)

    poll(lambda: api.get("/ready").status == 200, "ready once the identity is renewed")
    assert tls_exchange(api.address("api"), client_context(stage.identity("/web")), b"hello") == b"hello"


def test_expiry_while_running_stops_new_connections(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    directory = stage.identity("/api").directory
    api = stage.sidecar("api", inbound(forward=service.address), identity=directory)
    context = client_context(stage.identity("/web"))
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4 + LONGER_START)
    stage.mesh.forge(into=directory, uris=["spiffe://mesh.test/api"], not_after=until)
    api.signal(signal.SIGHUP)
    api.everywhere("identity_loaded", generation=2)
    assert tls_exchange(api.address("api"), context, b"hello") == b"hello"

    assert "meshproxy ca issue /api" in api.log.event("certificate_expires", certificate="leaf").text("remedy")
    poll(lambda: api.get("/ready").status == 503, "not ready any more")
    assert listen_to(api.address("api")) == (b"", Ended.RESET)
    assert api.metric("meshproxy_certificate_expiry_seconds", certificate="leaf") < 0
    assert api.everywhere("identity_not_ready").text("reason").startswith("our certificate for")

    stage.mesh.issue("/api", into=directory)
    api.signal(signal.SIGHUP)
    poll(lambda: api.get("/ready").status == 200, "healed")
    assert tls_exchange(api.address("api"), context, b"again") == b"again"
