"""200 reloads of allow-lists, settings and listeners under 200 connections: not one request or stream fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.changes import Load, allow, reload_changes, unix_admin
from tests.scenarios.http_actors import Origin, fingerprints, mtls_caller
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

RELOADS = 200
CALLERS = STREAMS = 100


@pytest.mark.long
def test_two_hundred_reloads_under_two_hundred_connections(stage: Stage) -> None:
    origin, service = stage.keep(Origin(fingerprints)), stage.keep(Service(echo))
    stage.write("stream.allow.toml", '[[allow]]\nfrom = "/web"\n')
    allow(stage, "/web", more='paths = "/orders"')
    usual = (
        unix_admin("api")
        + inbound(forward=origin.address, protocol="http")
        + inbound("stream", forward=service.address, policy="stream.allow.toml")
    )
    api = stage.sidecar("api", usual)
    context = client_context(stage.identity("/web"))

    def settings(number: int) -> str:
        """Each time other limits for the streams; now and then a listener that comes and goes."""
        more = f"max_connections = {1000 + number}\n"
        guest = inbound("guest", forward=service.address, policy="stream.allow.toml") if number % 10 == 0 else ""
        return usual + more + guest

    with ExitStack() as streams:
        open_ones = [streams.enter_context(tls_dial(api.address("stream"), context)) for _ in range(STREAMS)]
        with Load(lambda: mtls_caller(api, context), clients=CALLERS, pause=0.25) as load:
            for number in range(1, RELOADS + 1):
                if number % 2:
                    stage.configure("api", settings(number), identity=stage.workspace / "identity-api")
                else:
                    allow(stage, *("/web", "/batch")[: 1 + number // 2 % 2], more='paths = "/orders"')
                reload_changes(api)
        for stream in open_ones:
            stream.sendall(b"still here")
            assert stream.recv(10) == b"still here"

    load.judge(at_least=2 * CALLERS)
    assert load.told_to_close == 0
    assert api.status().configuration.generation == 1 + RELOADS
    assert api.metric("meshproxy_reloads_total", result="loaded") == RELOADS
