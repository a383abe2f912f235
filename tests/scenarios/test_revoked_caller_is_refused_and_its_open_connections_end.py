"""Who is on the deny-list is refused, and what it had open ends at once: in either direction, whatever it carries."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.scenarios.actors import (
    Ended,
    Service,
    client_context,
    dial,
    echo,
    read_to_end,
    tls_dial,
    tls_exchange,
    underneath,
)
from tests.scenarios.changes import UPGRADE, echo_upgraded, until_identity
from tests.scenarios.http_actors import Origin, http_api, mesh_pair, mtls_caller, ok, request
from tests.scenarios.stage import PATIENCE, inbound, outbound, poll
from tests.scenarios.trusting import bring, revoke, run_ca, until_listed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

BOTH = '[[allow]]\nname = "both"\nfrom = ["/web", "/batch"]\n'


@pytest.fixture
def mesh(tmp_path: Path) -> MeshCa:
    """A CA of the test's own: what it revokes is nobody else's."""
    return make_mesh_ca(tmp_path)


def test_a_tcp_callers_streams_end_and_it_comes_in_no_more(stage: Stage) -> None:
    stage.write("web.allow.toml", BOTH)
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    directory = stage.workspace / "identity-api"
    bring(stage.mesh, directory)
    identity = stage.identity("/web")
    web, batch = client_context(identity), client_context(stage.identity("/batch"))
    with tls_dial(api.address("api"), web) as revoked, tls_dial(api.address("api"), batch) as other:
        for caller in (revoked, other):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"

        revoke(stage.mesh, f"{identity.certificate.serial_number:x}")
        bring(stage.mesh, directory)
        assert underneath(revoked) == (b"", Ended.RESET)

        other.sendall(b"still here")
        assert other.recv(10) == b"still here"
        until_listed(api, 1)  # by all workers
        with tls_dial(api.address("api"), web) as late:
            assert underneath(late) == (b"", Ended.RESET)

    serial = f"{identity.certificate.serial_number:x}"
    line = api.log.connection(end="revoked")
    assert (line.caller, line.decision) == ("spiffe://mesh.test/web", "allow")
    assert serial in line.detail
    told = api.log.event("handshake_failed", reason="revoked", claimed="spiffe://mesh.test/web")
    for word in (serial, "spiffe://mesh.test/web", "entry serial", "by deny-list number"):
        assert word in told.text("detail")
    assert api.log.event("revoked_connection_ended", listener="api", serial=serial).text("id") == line.id
    assert api.metric("meshproxy_handshake_failures_total", listener="api", reason="revoked") == 1
    assert api.metric("meshproxy_revoked_connections_total", listener="api") == 1
    assert api.metric("meshproxy_connections_total", listener="api", end="revoked") == 1


def test_http_connections_end_between_two_requests_and_in_the_middle_of_one(stage: Stage) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly(talk: Talk, request: Message) -> None:
        if request.target == "/slow":
            asked.set()
            go_on.wait(PATIENCE)
        ok(talk, request)

    stage.write("web.allow.toml", BOTH)
    api = http_api(stage, stage.keep(Origin(slowly)))
    directory = stage.workspace / "identity-api"
    bring(stage.mesh, directory)
    web, batch = (client_context(stage.identity(path)) for path in ("/web", "/batch"))
    with mtls_caller(api, web) as idle, mtls_caller(api, web) as busy, mtls_caller(api, batch) as other:
        for caller in (idle, busy, other):
            assert caller.ask("GET", "/").status == 200
        busy.say(request("POST", "/slow", body=b"x"))
        assert asked.wait(PATIENCE)

        revoke(stage.mesh, "--id", "/web", "--reason", "keyCompromise")
        bring(stage.mesh, directory)
        for caller in (idle, busy):
            assert underneath(caller.sock) == (b"", Ended.RESET)  # type: ignore[arg-type]
        go_on.set()
        assert other.ask("GET", "/").status == 200
        until_listed(api, 1)
        with mtls_caller(api, web) as late:
            assert underneath(late.sock) == (b"", Ended.RESET)  # type: ignore[arg-type]

    line = api.log.request(failure="revoked")
    assert (line.path, line.status, line.caller) == ("/slow", 0, "spiffe://mesh.test/web")
    assert "all certificates of spiffe://mesh.test/web up to" in line.detail
    assert api.metric("meshproxy_revoked_connections_total", listener="api") == 2


@pytest.mark.long
@pytest.mark.parametrize("revoked", ["/web", "/api"], ids=["by its caller's", "by its service's"])
def test_a_websocket_ends(stage: Stage, revoked: str) -> None:
    pair = mesh_pair(stage, stage.keep(Origin(echo_upgraded)))
    sidecar, name = (pair.api, "identity-api") if revoked == "/web" else (pair.web, "identity-web")
    directory = stage.workspace / name
    with pair.caller() as caller:
        caller.say(request("GET", "/talk", *UPGRADE))
        assert caller.hear_head().status == 101
        caller.say(b"hello")
        assert caller.read(5) == b"hello"

        revoke(stage.mesh, "--id", revoked)
        bring(stage.mesh, directory)
        assert read_to_end(caller.sock) == (b"", Ended.RESET)

    assert f"all certificates of spiffe://mesh.test{revoked} up to" in sidecar.log.request(end="revoked").detail


def test_an_outbound_stream_ends_and_its_far_end_is_dialled_no_more(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    with dial(web.address("to-api")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        revoke(stage.mesh, "--id", "/api")
        bring(stage.mesh, stage.workspace / "identity-web")
        assert read_to_end(caller) == (b"", Ended.RESET)

    line = web.log.connection(end="revoked")
    assert (line.upstream_id, line.side) == ("spiffe://mesh.test/api", "tls")
    until_listed(web, 1)
    with dial(web.address("to-api")) as late:
        assert read_to_end(late) == (b"", Ended.RESET)
    told = web.log.event("upstream_failed", phase="identity")
    assert told.text("detail").startswith("revoked: all certificates of spiffe://mesh.test/api up to")


def test_pooled_connections_end_in_use_and_at_rest_and_no_request_takes_one_again(stage: Stage) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly(talk: Talk, request: Message) -> None:
        if request.target == "/slow":
            asked.set()
            go_on.wait(PATIENCE)
        ok(talk, request)

    origin = stage.keep(Origin(slowly))
    pair = mesh_pair(stage, origin, web_more='pool_idle = "60s"')
    with pair.caller() as busy, pair.caller() as other:
        assert other.ask("GET", "/").status == 200  # its connection rests from now on,
        busy.say(request("POST", "/slow", body=b"x"))  # is taken,
        assert asked.wait(PATIENCE)
        assert other.ask("GET", "/").status == 200  # and another one rests

        revoke(stage.mesh, "--id", "/api")
        bring(stage.mesh, stage.workspace / "identity-web")
        answer = busy.hear("POST")
        assert (answer.status, "tls_certificate_error" in answer.value("proxy-status")) == (502, True)
        go_on.set()
        until_listed(pair.web, 1)
        assert other.ask("GET", "/").status == 502
        assert busy.ask("GET", "/").status == 502

    assert origin.targets() == ["/", "/slow", "/"]
    lines = [
        pair.web.log.request(failure="upstream_identity", path="/slow"),
        pair.web.log.request(status=502, path="/"),
    ]
    assert "were revoked" in lines[0].detail
    assert "revoked" in lines[1].detail
    assert pair.web.metric("meshproxy_revoked_connections_total", listener="to-api") == 2


def test_so_do_all_that_a_retired_intermediate_has_certified(stage: Stage) -> None:
    """Its root vouches for it still, and to OpenSSL it is an anchor of whoever was certified by it too."""
    stage.write("web.allow.toml", BOTH)
    api_directory, batch_directory = stage.workspace / "identity-api", stage.workspace / "batch"
    web = stage.identity("/web")
    file = stage.configure("api", inbound(forward=stage.keep(Service(echo)).address))
    bring(stage.mesh, api_directory)
    api = stage.run(file)
    with tls_dial(api.address("api"), client_context(web)) as early:
        early.sendall(b"hello")
        assert early.recv(5) == b"hello"

        run_ca(stage.mesh, "rotate", "prepare", "--what", "intermediate")
        run_ca(stage.mesh, "rotate", "activate", "--what", "intermediate")
        run_ca(stage.mesh, "issue", "/api", "--out", str(api_directory))
        run_ca(stage.mesh, "issue", "/batch", "--out", str(batch_directory))
        until_identity(api, 2)
        early.sendall(b"still here")
        assert early.recv(10) == b"still here"

        run_ca(stage.mesh, "rotate", "retire", "--what", "intermediate", "--force")
        bring(stage.mesh, api_directory)
        assert underneath(early) == (b"", Ended.RESET)

    assert "the intermediate that signed it was retired" in api.log.connection(end="revoked").detail
    poll(lambda: api.metric("meshproxy_revoked_connections_total", listener="api") == 1, "it is counted")
    assert api.get("/ready").status == 200  # its own certificate is of the new one
    batch = client_context(Identity(batch_directory, None))
    assert tls_exchange(api.address("api"), batch, b"hello") == b"hello"
    with tls_dial(api.address("api"), client_context(web)) as late:
        assert underneath(late) == (b"", Ended.RESET)
    api.log.event("handshake_failed", reason="revoked", claimed="spiffe://mesh.test/web")
