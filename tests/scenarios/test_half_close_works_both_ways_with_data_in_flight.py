"""Either side may stop talking and go on listening, as over plain TCP; what is in flight still arrives."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import (
    Ended,
    Service,
    answer_of_a_sink,
    crc_of_pattern,
    dial,
    farewell,
    full_duplex,
    read_to_end,
    send_pattern,
    sink,
    tell_a_sink,
)
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage

MUCH = 8 * 1024 * 1024
BEHAVIOURS = {"sink": sink, "farewell": farewell, "duplex": full_duplex(MUCH)}


@dataclass
class Pair:
    """Two sidecars between callers and one service of each behaviour."""

    services: dict[str, Service]
    api: Sidecar
    web: Sidecar

    def door(self, name: str) -> str:
        """Where a caller reaches a service; the logs are read from here on."""
        for sidecar in (self.api, self.web):
            sidecar.log.turn_page()
        return self.web.address(name)

    def last_visit(self, name: str) -> Visit:
        return self.services[name].visit(-1)

    def ended_cleanly(self) -> None:
        for sidecar in (self.api, self.web):
            assert sidecar.log.connection().end == "clean"


@pytest.fixture(scope="module")
def pair(shared_stage: Stage) -> Pair:
    services = {name: shared_stage.keep(Service(behave)) for name, behave in BEHAVIOURS.items()}
    tables = (inbound(name, forward=service.address) for name, service in services.items())
    api = shared_stage.sidecar("api", "".join(tables))
    doors = (outbound(name, endpoints=[api.address(name)]) for name in services)
    return Pair(services, api, shared_stage.sidecar("web", "".join(doors)))


@pytest.mark.parametrize("size", [0, 1, MUCH])
def test_a_caller_that_has_finished_still_hears_the_answer(pair: Pair, size: int) -> None:
    assert tell_a_sink(pair.door("sink"), size) == answer_of_a_sink(size)

    assert pair.last_visit("sink").count == size
    pair.ended_cleanly()


def test_a_service_that_has_finished_still_hears_the_caller(pair: Pair) -> None:
    with dial(pair.door("farewell")) as caller:
        assert read_to_end(caller) == (b"goodbye", Ended.EOF)
        send_pattern(caller, MUCH)
        caller.shutdown(socket.SHUT_WR)
        visit = pair.last_visit("farewell")

    assert (visit.count, visit.crc, visit.ended) == (MUCH, crc_of_pattern(MUCH), Ended.EOF)
    pair.ended_cleanly()


def test_a_caller_finishes_while_the_service_is_in_full_flow(pair: Pair) -> None:
    """The caller half-closes in the middle of what the service is saying, and neither loses a byte."""
    with dial(pair.door("duplex")) as caller:
        talking = threading.Thread(target=send_pattern, args=(caller, MUCH))
        talking.start()
        heard = 0
        while heard < MUCH // 2:
            heard += len(caller.recv(65536))
        talking.join()
        caller.shutdown(socket.SHUT_WR)
        rest, ended = read_to_end(caller)

    assert (heard + len(rest), ended) == (MUCH, Ended.EOF)
    visit = pair.last_visit("duplex")
    assert (visit.count, visit.crc, visit.ended) == (MUCH, crc_of_pattern(MUCH), Ended.EOF)
    pair.ended_cleanly()
