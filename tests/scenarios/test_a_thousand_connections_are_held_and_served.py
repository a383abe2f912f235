"""A thousand callers stay connected at once, and then each of them is served."""

from __future__ import annotations

import contextlib
import resource
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

MANY = 1000
DESCRIPTORS = 3 * MANY  # both ends in this process, and some of its own


def ended_properly(sidecar: Sidecar) -> bool:
    return sidecar.status().listeners[0].ended == {"clean": MANY}


@pytest.mark.long
def test_a_thousand_connections_are_held_and_served(stage: Stage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} open files, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with contextlib.ExitStack() as held:
        callers = [held.enter_context(dial(web.address("to-api"))) for _ in range(MANY)]
        poll(lambda: len(service.visits) == MANY, "all have come through to the service", within=60)
        assert [sidecar.status().listeners[0].open for sidecar in (api, web)] == [MANY, MANY]
        for number, caller in enumerate(callers):
            caller.sendall(b"caller %d" % number)
            caller.shutdown(socket.SHUT_WR)
        for number, caller in enumerate(callers):
            assert read_to_end(caller) == (b"caller %d" % number, Ended.EOF)

    for sidecar in (api, web):
        poll(partial(ended_properly, sidecar), "all ended properly")
