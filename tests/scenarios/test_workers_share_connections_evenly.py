"""Connections that come in one burst, or one after the other, go to both workers: none gets more than 60 of 100."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, dial, echo
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

TWO = "[runtime]\nworkers = 2\n"
MANY = 32


def shares(sidecar: Sidecar) -> list[int]:
    return [each.open for each in sidecar.status().workers]


@pytest.mark.long  # a share is what it should be on a machine that does nothing else
def test_long_lived_connections_are_split(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", TWO + inbound(forward=service.address))
    web = stage.sidecar("web", TWO + outbound(endpoints=[api.address("api")]))
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(dial(web.address("to-api"))) for _ in range(MANY)]
        for caller in callers:
            caller.sendall(b"hello")
        for caller in callers:
            assert caller.recv(5) == b"hello"
        for sidecar in (api, web):
            found = shares(sidecar)
            assert sum(found) == MANY
            assert max(found) <= 0.6 * MANY, found

    poll(lambda: shares(web) == [0, 0], "all have left")
    assert web.metric("meshproxy_connections_open", listener="to-api") == 0
