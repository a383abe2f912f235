"""An outbound listener speaks to one identity only; the right CA is not enough."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, dial, echo, read_to_end
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_wrong_server_identity_is_not_talked_to(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    other = stage.sidecar("other", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(to="/api", endpoints=[other.address("api")]))

    with dial(web.address("to-api")) as application:
        with contextlib.suppress(ConnectionError):  # we may have been turned away before we have said it
            application.sendall(b"secret")
        heard = read_to_end(application)

    assert heard == (b"", Ended.RESET)
    failed = web.log.event("upstream_failed", phase="identity")
    assert failed["detail"] == "the far end is spiffe://mesh.test/other, only spiffe://mesh.test/api is accepted"
    assert web.log.connection(end="failed").bytes_in == 0
    labels = {"listener": "to-api", "phase": "identity"}
    assert web.metric("meshproxy_upstream_failures_total", **labels) == 1
    if service.visits:  # the far end cannot know yet that we refuse it; no byte of ours may come there
        assert service.visit().count == 0
