"""One more than `max_connections` is turned away at once; when somebody leaves, there is room again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, dial, echo, exchange, listen_to
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_max_connections_caps_a_listener(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], more="max_connections = 2"))

    with dial(web.address("to-api")) as first, dial(web.address("to-api")) as second:
        for caller in (first, second):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"
        assert listen_to(web.address("to-api")) == (b"", Ended.RESET)
        refused = web.log.event("connection_refused", reason="max_connections")
        assert refused["remedy"] == "raise max_connections of this listener"
        first.sendall(b"still here")
        assert first.recv(10) == b"still here"

    poll(lambda: web.status().listeners[0].open == 0, "both have left")
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    labels = {"listener": "to-api", "reason": "max_connections"}
    assert web.metric("meshproxy_connections_refused_total", **labels) == 1
