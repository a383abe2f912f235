"""SIGTERM in the middle of a steady load: every request is answered, callers are told to go, exit 0."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import dial
from tests.scenarios.changes import Load, allow
from tests.scenarios.http_actors import Caller, Origin, Pair, fingerprints, http_api
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

CLIENTS = 20
REPETITIONS = [2, pytest.param(10, marks=pytest.mark.long)]


def started(stage: Stage, origin: Origin) -> Pair:
    allow(stage, "/web", more='paths = "/orders"')
    api = http_api(stage, origin)
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], protocol="http"))
    return Pair(stage, api, web)


@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_the_callers_sidecar_ends_first_then_the_services(stage: Stage, repetitions: int) -> None:
    origin = stage.keep(Origin(fingerprints))
    for _ in range(repetitions):
        pair = started(stage, origin)
        with Load(pair.caller, clients=CLIENTS) as load:
            load.wait_for(5 * CLIENTS)
            load.let_go()
            pair.web.signal(signal.SIGTERM)
            load.join()
        load.judge(at_least=5 * CLIENTS)
        assert load.told_to_close == CLIENTS
        assert pair.web.exit_code() == 0
        pair.api.signal(signal.SIGTERM)
        assert pair.api.exit_code() == 0
        assert pair.api.log.event("stopped")["nothing_cut"] is True


def file_at(stage: Stage, address: str, origin: Origin) -> Path:
    """The file of a service's sidecar at an address to which it can come back."""
    table = inbound(forward=origin.address, protocol="http").replace("127.0.0.1:0", address)
    return stage.configure(f"api-{address[-5:]}", table, identity=stage.identity("/api").directory)


@pytest.mark.long
@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_one_of_two_services_sidecars_ends_and_the_other_takes_over(stage: Stage, repetitions: int) -> None:
    """A rolling restart: whoever calls notices nothing, though its POSTs are sent once only."""
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    endpoints = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    apis = [stage.run(file_at(stage, address, origin)) for address in endpoints]
    web = stage.sidecar("web", outbound(endpoints=endpoints, protocol="http"))
    with Load(lambda: Caller(dial(web.address("to-api"))), clients=CLIENTS) as load:
        for number in range(repetitions):
            load.wait_for(3 * CLIENTS)
            ending = apis[number % 2]
            ending.signal(signal.SIGTERM)
            assert ending.exit_code() == 0
            load.wait_for(3 * CLIENTS)
            apis[number % 2] = stage.run(file_at(stage, endpoints[number % 2], origin))
    load.judge(at_least=6 * CLIENTS * repetitions)
    assert load.told_to_close == 0  # that is between the sidecars
