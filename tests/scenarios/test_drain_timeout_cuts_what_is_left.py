"""At `drain_timeout` what is still open is cut, said so, and the exit code is 1; a second signal does not wait."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_drain_timeout_cuts_what_is_left(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", '[runtime]\ndrain_timeout = "700ms"\n' + inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        began = time.monotonic()
        api.signal(signal.SIGTERM)
        assert read_to_end(caller) == (b"", Ended.RESET)
        assert 0.6 < time.monotonic() - began < 5

    assert api.exit_code() == 1
    assert api.log.connection(end="drained").bytes_in == 5
    assert api.log.event("stopped")["nothing_cut"] is False
    assert service.visit().ended is Ended.RESET


def test_a_second_signal_exits_at_once(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        api.signal(signal.SIGTERM)
        api.log.event("draining")
        api.signal(signal.SIGTERM)
        assert api.exit_code(within=5) == 1
        assert read_to_end(caller) == (b"", Ended.RESET)

    assert api.log.event("exiting_at_once")["signal"] == "SIGTERM"
    assert api.log.connection(end="drained").bytes_in == 5
