"""An HTTP connection ends, politely, before the first of its two certificates expires; nobody gets in with it again."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.changes import allow
from tests.scenarios.http_actors import Origin, http_api, mtls_caller
from tests.scenarios.stage import LONGER_START, inbound, poll

if TYPE_CHECKING:
    from tests.factory import Identity
    from tests.scenarios.http_actors import Caller
    from tests.scenarios.stage import Stage

LIFE = timedelta(seconds=6 + LONGER_START)


def wait_for(expiry: datetime) -> None:
    """Let the certificate expire: its life is the thing that is waited for."""
    poll(lambda: datetime.now(UTC) > expiry + timedelta(seconds=1), "the certificate expires")


def short_lived(stage: Stage, path: str) -> Identity:
    until = datetime.now(UTC).replace(microsecond=0) + LIFE
    return stage.mesh.forge(into=stage.workspace / f"short{path}", uris=[f"spiffe://mesh.test{path}"], not_after=until)


def is_ended_politely_by(caller: Caller, expiry: datetime) -> bool:
    """Wait for the end: with close_notify, for without one Python raises an error here.

    An idle connection is wound down some time before, so that no request meets the end.
    """
    assert caller.has_ended()
    return datetime.now(UTC) < expiry + timedelta(seconds=2)


def test_a_callers_certificate(stage: Stage) -> None:
    allow(stage, "/web", more='paths = "/orders"')
    api = http_api(stage, stage.keep(Origin()))
    web = short_lived(stage, "/web")
    with mtls_caller(api, client_context(web)) as caller:
        assert caller.ask("GET", "/orders").status == 200
        assert is_ended_politely_by(caller, web.certificate.not_valid_after_utc)

    wait_for(web.certificate.not_valid_after_utc)
    with pytest.raises((ssl.SSLError, ConnectionError)), mtls_caller(api, client_context(web)) as late:
        late.ask("GET", "/orders")
    assert api.log.event("handshake_failed")["reason"] == "expired"


@pytest.mark.long
def test_the_services_certificate(stage: Stage) -> None:
    allow(stage, "/web", more='paths = "/orders"')
    short = short_lived(stage, "/api")
    context = client_context(stage.identity("/web"))
    tables = inbound(forward=stage.keep(Origin()).address, protocol="http")
    api = stage.sidecar("api", tables, identity=short.directory)
    with mtls_caller(api, context) as caller:
        assert caller.ask("GET", "/orders").status == 200
        assert is_ended_politely_by(caller, short.certificate.not_valid_after_utc)

    wait_for(short.certificate.not_valid_after_utc)
    with pytest.raises((ssl.SSLError, ConnectionError)), mtls_caller(api, context) as late:
        late.ask("GET", "/orders")
    assert api.status().state == "refusing"

    api.log.turn_page()
    stage.mesh.issue("/api", into=short.directory)
    api.everywhere("identity_ready")
    with mtls_caller(api, context) as caller:
        assert caller.ask("GET", "/orders").status == 200
