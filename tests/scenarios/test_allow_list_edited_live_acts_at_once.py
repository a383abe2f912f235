"""An edited allow-list acts at once: on the next request, the next connection, and the streams that are open.

Exactly those streams end that would not be let in any more, and it is said why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import (
    Ended,
    Service,
    client_context,
    dial,
    echo,
    exchange,
    read_to_end,
    tls_dial,
    underneath,
)
from tests.scenarios.changes import UPGRADE, allow, echo_upgraded, take_up, until_generation
from tests.scenarios.http_actors import Origin, mesh_pair, mtls_caller, request
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

AT_ONCE = 1.0  # seconds after the new generation
TO_ORDERS = 'methods = ["GET"]\npaths = "/orders/**"'


def test_the_next_request_is_judged_by_it(stage: Stage) -> None:
    allow(stage, "/batch", more=TO_ORDERS)
    pair = mesh_pair(stage, stage.keep(Origin()))
    with pair.caller() as caller, pair.mtls_caller("/batch") as batch:
        assert caller.ask("GET", "/orders").status == 403

        allow(stage, "/web", "/batch", more=TO_ORDERS)
        until_generation(pair.api, 2)
        assert caller.ask("GET", "/orders").status == 200
        line = pair.api.log.request(status=200)
        assert (line.rule, line.policy.endswith("web.allow.toml@2")) == ("web-calls", True)

        allow(stage, "/batch", more=TO_ORDERS)
        until_generation(pair.api, 3)
        assert caller.ask("GET", "/orders").status == 403
        assert batch.ask("GET", "/orders").status == 200
        pair.api.log.request(status=403, caller="spiffe://mesh.test/web", policy=line.policy[:-1] + "3")


def test_the_next_connection_is_judged_by_it(stage: Stage) -> None:
    allow(stage, "/batch")
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))

    def is_denied() -> bool:
        with dial(web.address("to-api")) as caller:
            return read_to_end(caller) == (b"", Ended.RESET)

    assert is_denied()
    allow(stage, "/web")
    take_up(api, 2)
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    allow(stage, "/batch")
    take_up(api, 3)
    assert is_denied()


def test_an_open_connection_of_who_is_denied_now_ends_and_no_other(stage: Stage) -> None:
    allow(stage, "/web", "/batch")
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    contexts = [client_context(stage.identity(path)) for path in ("/web", "/batch")]
    with tls_dial(api.address("api"), contexts[0]) as web, tls_dial(api.address("api"), contexts[1]) as batch:
        for caller in (web, batch):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"

        allow(stage, "/batch")
        take_up(api, 2)
        line = api.log.connection(end="denied", within=AT_ONCE)

        assert underneath(web) == (b"", Ended.RESET)
        batch.sendall(b"still here")
        assert batch.recv(10) == b"still here"

    assert line.caller == "spiffe://mesh.test/web"
    assert line.detail.startswith("no longer granted (no_rule) by ")
    assert line.detail.endswith("web.allow.toml, generation 2")
    assert (line.decision, line.bytes_in, line.bytes_out) == ("allow", 5, 5)  # it was let in, and then cut
    assert service.visit().ended is Ended.RESET
    assert api.metric("meshproxy_authz_terminated_total", listener="api") == 1


def test_an_upgraded_stream_ends_with_its_grant(stage: Stage) -> None:
    allow(stage, "/web", "/batch", more=TO_ORDERS)
    api = mesh_pair(stage, stage.keep(Origin(echo_upgraded))).api
    contexts = [client_context(stage.identity(path)) for path in ("/web", "/batch")]
    with mtls_caller(api, contexts[0]) as web, mtls_caller(api, contexts[1]) as batch:
        for caller in (web, batch):
            caller.say(request("GET", "/orders/talk", *UPGRADE))
            assert caller.hear_head().status == 101
            caller.say(b"hello")
            assert caller.read(5) == b"hello"

        allow(stage, "/batch", more=TO_ORDERS)
        take_up(api, 2)
        line = api.log.request(end="denied", within=AT_ONCE)

        batch.say(b"still here")
        assert batch.read(10) == b"still here"

    assert (line.caller, line.path, line.status) == ("spiffe://mesh.test/web", "/orders/talk", 101)
    assert "no longer granted (no_rule)" in line.detail
    assert api.metric("meshproxy_authz_terminated_total", listener="api") == 1


def test_a_narrower_path_ends_the_stream_too(stage: Stage) -> None:
    allow(stage, "/web", more='paths = ["/orders/talk", "/orders/listen"]')
    pair = mesh_pair(stage, stage.keep(Origin(echo_upgraded)))
    with pair.caller() as talks, pair.caller() as listens:
        for caller, path in ((talks, "/orders/talk"), (listens, "/orders/listen")):
            caller.say(request("GET", path, *UPGRADE))
            assert caller.hear_head().status == 101

        allow(stage, "/web", more='paths = "/orders/listen"')
        take_up(pair.api, 2)
        assert pair.api.log.request(end="denied", within=AT_ONCE).path == "/orders/talk"
        listens.say(b"still here")
        assert listens.read(10) == b"still here"
