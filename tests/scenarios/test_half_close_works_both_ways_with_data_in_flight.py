"""Either side may stop talking and go on listening, as over plain TCP; what is in flight still arrives."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import (
    Ended,
    Service,
    crc_of_pattern,
    dial,
    farewell,
    read_to_end,
    send_pattern,
    sink,
    source,
)
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.actors import Behaviour
    from tests.scenarios.stage import Sidecar, Stage

MUCH = 8 * 1024 * 1024


def pair(stage: Stage, behave: Behaviour) -> tuple[Service, Sidecar, Sidecar]:
    service = stage.keep(Service(behave))
    api = stage.sidecar("api", inbound(forward=service.address))
    return service, api, stage.sidecar("web", outbound(endpoints=[api.address("api")]))


def both_clean(*sidecars: Sidecar) -> None:
    for sidecar in sidecars:
        assert sidecar.log.connection().end == "clean"


@pytest.mark.parametrize("size", [0, 1, MUCH])
def test_a_caller_that_has_finished_still_hears_the_answer(shared_stage: Stage, size: int) -> None:
    service, api, web = pair(shared_stage, sink)

    with dial(web.address("to-api")) as caller:
        send_pattern(caller, size)
        caller.shutdown(socket.SHUT_WR)
        assert read_to_end(caller) == (f"{size} {crc_of_pattern(size):08x}".encode(), Ended.EOF)

    assert service.visit().count == size
    both_clean(api, web)


def test_a_service_that_has_finished_still_hears_the_caller(shared_stage: Stage) -> None:
    service, api, web = pair(shared_stage, farewell)

    with dial(web.address("to-api")) as caller:
        assert read_to_end(caller) == (b"goodbye", Ended.EOF)
        send_pattern(caller, MUCH)
        caller.shutdown(socket.SHUT_WR)
        visit = service.visit()

    assert (visit.count, visit.crc, visit.ended) == (MUCH, crc_of_pattern(MUCH), Ended.EOF)
    both_clean(api, web)


def test_one_side_finishes_while_the_other_is_in_full_flow(shared_stage: Stage) -> None:
    """The caller half-closes in the middle of what the service is saying, and loses none of it."""
    service, api, web = pair(shared_stage, source(MUCH))

    with dial(web.address("to-api")) as caller:
        begin = caller.recv(1000)
        talking = threading.Thread(target=send_pattern, args=(caller, MUCH))
        talking.start()
        rest = bytearray()
        while len(rest) < MUCH // 2:
            rest += caller.recv(65536)
        talking.join()
        caller.shutdown(socket.SHUT_WR)
        last, ended = read_to_end(caller)

    assert ended is Ended.EOF
    assert len(begin) + len(rest) + len(last) == MUCH
    visit = service.visit()
    assert (visit.count, visit.crc, visit.ended) == (MUCH, crc_of_pattern(MUCH), Ended.EOF)
    both_clean(api, web)
