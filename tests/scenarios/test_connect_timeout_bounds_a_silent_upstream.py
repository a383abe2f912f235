"""An endpoint that accepts and never answers, or does not even accept, costs a caller its deadline and no more."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, echo, exchange, listen_to
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_a_far_end_that_never_shakes_hands_is_passed_over(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    mute = stage.keep(contextlib.closing(socket.create_server(("127.0.0.1", 0))))
    silent = f"127.0.0.1:{mute.getsockname()[1]}"
    endpoints = [silent, api.address("api")]
    web = stage.sidecar("web", outbound(endpoints=endpoints, more='handshake_timeout = "500ms"'))

    began = time.monotonic()
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    assert 0.45 < time.monotonic() - began < 5

    failed = web.log.event("upstream_failed", phase="handshake", endpoint=silent)
    assert failed["detail"] == "no answer within 0.5 s"
    began = time.monotonic()
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    assert time.monotonic() - began < 0.45  # who failed lately is asked last


def test_a_service_whose_queue_is_full_is_given_up_at_connect_timeout(stage: Stage) -> None:
    full = stage.keep(contextlib.closing(socket.socket()))
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = f"127.0.0.1:{full.getsockname()[1]}"
    for _ in range(4):  # a backlog of 0 takes one or two; then SYNs are dropped
        waiting = stage.keep(contextlib.closing(socket.socket()))
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    api = stage.sidecar("api", inbound(forward=address, more='connect_timeout = "500ms"'))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)

    line = api.log.connection(end="failed")
    assert "no answer within 0.5 s" in line.detail
    assert 450 < line.duration_ms < 5000


def test_a_service_that_is_down_is_named(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    api = stage.sidecar("api", inbound(forward=address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)

    failed = api.log.event("upstream_failed")
    assert (failed["phase"], failed["endpoint"], failed["detail"]) == ("connect", address, "Connection refused")
    assert api.log.connection(end="failed").upstream == address
