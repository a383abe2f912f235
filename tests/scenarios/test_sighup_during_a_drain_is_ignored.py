"""Once the drain has begun nothing is reloaded any more, whoever asks: it would disturb those who are being served."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.changes import allow, reload, unix_admin
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_who_is_being_served_is_not_asked_about_again(stage: Stage) -> None:
    api = stage.sidecar("api", unix_admin("api") + inbound(forward=stage.keep(Service(echo)).address))
    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        api.signal(signal.SIGTERM)
        api.log.event("draining")

        allow(stage, "/batch")
        api.signal(signal.SIGHUP)
        ignored = api.log.event("signal_ignored")
        assert (ignored["signal"], ignored["reason"]) == ("SIGHUP", "draining")
        assert reload(api).json.text("result") == "draining"

        assert api.status().configuration.generation == 1
        caller.sendall(b"still here")
        assert caller.recv(10) == b"still here"
        caller.unwrap().close()

    assert api.exit_code() == 0
    assert api.log.seen("reloaded") == []
