"""SIGTERM: ready goes false, newcomers find the door closed, who is being served is served to the end, exit 0."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import (
    Ended,
    Service,
    crc_of_pattern,
    dial,
    echo,
    exchange,
    read_to_end,
    send_pattern,
    sink,
)
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

MUCH = 16 * 1024 * 1024


def closed_for_newcomers(address: str) -> bool:
    try:
        dial(address).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_transfer_finishes_on_both_sides(stage: Stage, number: signal.Signals) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as caller:
        send_pattern(caller, MUCH // 2)
        for sidecar in (api, web):
            sidecar.signal(number)
            assert sidecar.log.event("draining")["signal"] == number.name
        poll(lambda: closed_for_newcomers(api.address("api")), "the inbound listener closed")
        poll(lambda: closed_for_newcomers(web.address("to-api")), "the outbound listener closed")
        assert api.get("/ready").json == {"ready": False, "state": "draining"}
        assert api.get("/live").status == 200
        send_pattern(caller, MUCH // 2)
        caller.shutdown(socket.SHUT_WR)
        assert read_to_end(caller) == (f"{MUCH} {crc_of_pattern(MUCH):08x}".encode(), Ended.EOF)

    for sidecar in (api, web):
        assert sidecar.exit_code() == 0
        assert sidecar.log.connection(end="clean").duration_ms > 0
        assert sidecar.log.event("stopped")["nothing_cut"] is True


def test_outbound_stays_open_while_inbound_still_serves(stage: Stage) -> None:
    """Who is being served may still need to call others, also for the first time."""
    service, ledger = stage.keep(Service(echo)), stage.keep(Service(echo))
    stage.write("api.allow.toml", '[[allow]]\nfrom = "/api"\n')
    far = stage.sidecar("ledger", inbound("ledger", forward=ledger.address, policy="api.allow.toml"))
    api = stage.sidecar(
        "api",
        inbound(forward=service.address) + outbound("to-ledger", to="/ledger", endpoints=[far.address("ledger")]),
    )
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        api.signal(signal.SIGTERM)
        poll(lambda: closed_for_newcomers(api.address("api")), "the inbound listener closed")
        assert exchange(api.address("to-ledger"), b"charge") == b"charge"

    assert api.exit_code() == 0


def test_an_idle_sidecar_ends_at_once_and_removes_its_sockets(stage: Stage) -> None:
    door = stage.workspace / "door"
    tables = outbound(endpoints=["127.0.0.1:9"]).replace("127.0.0.1:0", f"unix:{door}")
    web = stage.sidecar("web", tables)
    assert door.is_socket()

    web.signal(signal.SIGTERM)

    assert web.exit_code(within=5) == 0
    assert not door.exists()


def test_drain_delay_keeps_the_door_open_for_slow_load_balancers(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", '[runtime]\ndrain_delay = "1s"\n' + inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    api.signal(signal.SIGTERM)
    poll(lambda: api.get("/ready").status == 503, "ready false")
    assert exchange(web.address("to-api"), b"late") == b"late"

    assert api.exit_code() == 0
