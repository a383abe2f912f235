"""docs/migrate.md, step by step under traffic: from a plain port to mutual TLS and an enforced list; nobody notices.

The plain port stays while callers move, one after the other; the list is learnt from what they do, enforced while they
do it, and the plain port is closed when nobody uses it any more. Whoever comes then without an identity is outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context, dial
from tests.scenarios.changes import Load, reload_changes, unix_admin
from tests.scenarios.http_actors import Caller, Origin, fingerprints, mtls_caller
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, meshproxy, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

ELSEWHERE = "127.0.0.2"  # the address by which other machines reach the service
PAUSE = 0.02


class Application:
    """A caller that is told where to call: plainly, or its own sidecar."""

    def __init__(self, address: str) -> None:
        self.address = address

    def connect(self) -> Caller:
        return Caller(dial(self.address))


class PlainPort:
    """Of the service: what other machines call until they have moved. It is the same service."""

    def __init__(self, port: int) -> None:
        self._origin = Origin(fingerprints, port=port, host=ELSEWHERE)
        self._origin.__enter__()

    @property
    def in_use(self) -> bool:
        """What `ss -Htn state established '( sport = :8080 )'` tells an operator."""
        return not all(visit.over.is_set() for visit in self._origin.visits)

    def close(self) -> None:
        self._origin.__exit__(None, None, None)


def written(api: Sidecar, stage: Stage) -> str:
    """The sidecar's log as a file."""
    return str(stage.write("api.log", str(api.log) + "\n"))


@pytest.mark.long
def test_migration(stage: Stage) -> None:
    origin = stage.keep(Origin(fingerprints))
    port = int(origin.address.rpartition(":")[2])
    plain = PlainPort(port)
    stage.on_leaving(plain.close)
    web, batch = (Application(f"{ELSEWHERE}:{port}") for _ in range(2))
    with (
        Load(web.connect, clients=4, per_connection=20, target="/orders/17", pause=PAUSE) as orders,
        Load(batch.connect, clients=2, per_connection=20, target="/reports", pause=PAUSE) as reports,
    ):
        orders.wait_for(20)

        # 1. A sidecar beside the service: nobody is refused, and the plain port is as it was.
        stage.write("api.allow.toml", "allow = []\n")
        listen = f"127.0.0.1:{free_port()}"
        audit = inbound(forward=origin.address, protocol="http", policy="api.allow.toml", more='mode = "audit"')
        api = stage.sidecar("api", unix_admin("api") + audit.replace("127.0.0.1:0", listen))

        # 2. The callers move, one after the other, each by one address in its settings.
        for application, name, target in ((web, "web", "/orders/17"), (batch, "batch", "/reports")):
            beside = stage.sidecar(name, outbound(endpoints=[listen], protocol="http"))
            with Caller(dial(beside.address("to-api"))) as tried:
                assert tried.ask("POST", target, body=b"by hand").status == 200
            application.address = beside.address("to-api")
            for load in (orders, reports):
                load.wait_for(20)
        poll(lambda: not plain.in_use, "nobody calls the plain port any more")

        # 3. The list is learnt from what they did, read, and tried against it.
        learnt = meshproxy("policy", "learn", "--log", written(api, stage), "--trust-domain", "mesh.test")
        assert learnt.returncode == 0, learnt.stderr
        assert "/web" in learnt.stdout
        assert "/batch" in learnt.stdout
        stage.write("api.allow.toml", learnt.stdout)
        reload_changes(api)
        for load in (orders, reports):
            load.wait_for(20)
        api.log.turn_page()
        for load in (orders, reports):
            load.wait_for(20)
        assert api.log.seen("would_deny") == []

        # 4. It is enforced, and the plain port is closed, under the same load.
        api.file.write_text(api.file.read_text().replace('mode = "audit"', 'mode = "enforce"'))
        reload_changes(api)
        for load in (orders, reports):
            load.wait_for(20)
        plain.close()
        for load in (orders, reports):
            load.wait_for(50)

    for load in (orders, reports):
        load.judge(at_least=100)
    assert api.metric("meshproxy_requests_total", listener="api", status="4xx", failure="denied") == 0
    with pytest.raises(OSError, match="refused"):
        dial(f"{ELSEWHERE}:{port}")
    with mtls_caller(api, client_context(stage.identity("/mallory"))) as stranger:
        assert stranger.ask("POST", "/orders/17", body=b"x").status == 403
    with web.connect() as caller:
        assert caller.ask("DELETE", "/orders/17").status == 403
