"""A connection ends when the first of its two certificates expires, in use or not, however it was opened."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, dial, echo, read_to_end, tls_dial, underneath
from tests.scenarios.stage import LONGER_START, inbound, outbound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.stage import Stage

LIFE = timedelta(seconds=6 + LONGER_START)


def short_lived(stage: Stage, path: str, into: Path) -> Identity:
    until = datetime.now(UTC).replace(microsecond=0) + LIFE
    return stage.mesh.forge(into=into, uris=[f"spiffe://mesh.test{path}"], not_after=until)


def test_a_callers_certificate_ends_its_connection(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = short_lived(stage, "/web", stage.workspace / "short")

    with tls_dial(api.address("api"), client_context(web)) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        assert underneath(caller) == (b"", Ended.RESET)
        ended = datetime.now(UTC)

    expiry = web.certificate.not_valid_after_utc
    assert expiry <= ended < expiry + timedelta(seconds=2)
    assert api.log.connection(end="aged").detail == "a certificate of this connection has expired"
    assert service.visit().ended is Ended.RESET


@pytest.mark.long
def test_the_sidecars_own_certificate_ends_its_connections(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    directory = stage.identity("/web").directory
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]), identity=directory)
    short_lived(stage, "/web", directory)
    web.signal(signal.SIGHUP)
    web.everywhere("identity_loaded", generation=2)

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        assert read_to_end(caller) == (b"", Ended.RESET)

    assert {api.log.connection().end, web.log.connection().end} <= {"aged", "reset"}
    assert "aged" in {api.log.connection().end, web.log.connection().end}
