"""When the `expires` of a rule passes it grants no more, and the streams it let in end: nobody has to reload."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, underneath
from tests.scenarios.changes import UPGRADE, allow_list, echo_upgraded
from tests.scenarios.http_actors import Origin, mesh_pair, request
from tests.scenarios.stage import LONGER_START, inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

LOOK_EVERY = 1.0  # seconds


def expiring(stage: Stage, *, within: float, more: str = "") -> datetime:
    """Grant /web something that ends soon, and /batch the same for good; returns when."""
    ends = datetime.now(UTC) + timedelta(seconds=within + 2 * LONGER_START)
    text = allow_list("/web", more=f"expires = {ends.isoformat()}\n{more}") + allow_list("/batch", more=more)
    stage.write("web.allow.toml", text)
    return ends


def test_a_connection_ends_with_its_grant(stage: Stage) -> None:
    ends = expiring(stage, within=5)
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    contexts = [client_context(stage.identity(path)) for path in ("/web", "/batch")]
    with tls_dial(api.address("api"), contexts[0]) as web, tls_dial(api.address("api"), contexts[1]) as batch:
        for caller in (web, batch):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"

        assert underneath(web) == (b"", Ended.RESET)
        assert ends <= datetime.now(UTC) < ends + timedelta(seconds=LOOK_EVERY + 1)

        batch.sendall(b"still here")
        assert batch.recv(10) == b"still here"
        with tls_dial(api.address("api"), contexts[0]) as late:
            assert underneath(late) == (b"", Ended.RESET)

    line = api.log.connection(end="denied", decision="allow")
    assert "no longer granted (expired_grant)" in line.detail
    assert "generation 1" in line.detail
    assert api.log.connection(decision="deny").reason == "expired_grant"
    told = api.log.event("grant_expired", rule="web-calls")
    assert told.text("policy").endswith("web.allow.toml:1")
    assert api.log.seen("reloaded") == []
    [listener] = api.status().listeners
    assert listener.policy is not None
    assert listener.policy.expired_rules == ("web-calls",)


def test_an_upgraded_stream_ends_with_its_grant(stage: Stage) -> None:
    expiring(stage, within=6, more='paths = "/orders/**"')
    pair = mesh_pair(stage, stage.keep(Origin(echo_upgraded)))
    with pair.caller() as caller:
        caller.say(request("GET", "/orders/talk", *UPGRADE))
        assert caller.hear_head().status == 101
        caller.say(b"hello")
        assert caller.read(5) == b"hello"
        assert "no longer granted (expired_grant)" in pair.api.log.request(end="denied").detail
    with pair.caller() as caller:
        assert caller.ask("GET", "/orders").status == 403
