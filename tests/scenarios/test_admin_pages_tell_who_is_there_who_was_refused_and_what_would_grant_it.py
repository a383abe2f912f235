"""The admin API tells who is connected, what moves, who was refused and why; and its edit grants just that."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.scenarios.actors import Service, chunks, client_context, dial
from tests.scenarios.http_actors import Origin, http_api, mtls_caller
from tests.scenarios.stage import WORKERS, inbound, outbound, poll
from tests.scenarios.test_traffic_shows_in_series_topology_and_events import Events, points

if TYPE_CHECKING:
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage

pytestmark = pytest.mark.long


def page(sidecar: Sidecar, path: str) -> dict[str, Any]:
    answer = sidecar.get(path)
    assert (answer.status, answer.content_type) == (200, "application/json"), answer.body
    return answer.json


def echo(sock: socket.socket, visit: Visit) -> None:
    for data in chunks(sock, visit):
        sock.sendall(data)


def test_a_stream_shows_while_it_lasts(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    with dial(web.address("to-api")) as sock:
        sock.sendall(b"x" * 1000)
        assert len(sock.recv(1000, socket.MSG_WAITALL)) == 1000
        edge = ("destination", "/web", "/api", "tcp")
        poll(lambda: points(api).get(edge, [0] * 7)[3:5] == [1000, 1000], "its bytes, while it is open")
        assert points(api)[edge][0] == 0, "it is not over"
        [row] = page(api, "/connections")["connections"]
        assert (row["listener"], row["principal"], row["rule"]) == ("api", "spiffe://mesh.test/web", "web-calls")
        assert (row["bytes_in"], row["bytes_out"], row["protocol"], row["direction"]) == (1000, 1000, "tcp", "inbound")
        [far] = page(web, "/connections")["connections"]
        assert (far["principal"], far["bytes_in"]) == ("spiffe://mesh.test/api", 1000)
    poll(lambda: points(api)[edge][0] == 1, "it is over")
    assert points(api)[edge][1:5] == [0, 0, 1000, 1000]
    assert page(api, "/connections")["connections"] == []


def test_a_refusal_is_explained_and_its_edit_grants_it(stage: Stage) -> None:
    allow = '[[allow]]\nname = "web-reads"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/docs/**"]\n'
    audit = f'audit = "all"\n[audit]\nfile = "{stage.workspace / "audit.jsonl"}"\n'
    api = http_api(stage, stage.keep(Origin()), allow=allow, more=audit)
    heard = stage.keep(Events(api))
    next(heard)
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        for _ in range(3):
            assert caller.ask("DELETE", "/docs/a").status == 403
        assert caller.ask("GET", "/docs/a").status == 200
    told = next(data for kind, data in heard if kind == "denial")
    assert (told["principal"], told["method"], told["path"]) == ("spiffe://mesh.test/web", "DELETE", "/docs/a")
    poll(lambda: [row["count"] for row in page(api, "/denials")["denials"]] == [3], "one row for all three")
    [row] = page(api, "/denials")["denials"]
    assert row["nearest"]["rule"] == "web-reads"
    assert row["nearest"]["failed"] == "method"

    [rules] = page(api, "/policy")["listeners"]
    assert [(rule["name"], rule["granted"]) for rule in rules["rules"]] == [("web-reads", 1), ("barrier", 0)]
    stage.write("web.allow.toml", f"{allow}\n{row['edit']}")
    api.log.event("reloaded")
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("DELETE", "/docs/a").status == 200
        assert caller.ask("DELETE", "/docs/b").status == 403
    poll(lambda: len(page(api, "/denials")["denials"]) == 2, "the other refusal")
    rows = page(api, "/denials")["denials"]
    assert [each["path"] for each in rows] == ["/docs/b", "/docs/a"]
    assert "granted by now" in rows[1]["explanation"]
    markers = page(api, "/series?tier=10s")["markers"]
    assert [marker["kind"] for marker in markers if marker["kind"] != "serving"] == ["start", "reload"]

    poll(lambda: len(page(api, "/audit")["records"]) == 6, "six decisions")
    records = page(api, "/audit?decision=deny&caller=%2Fweb&path=DELETE+%2Fdocs%2F**&limit=2")
    assert [record["path"] for record in records["records"]] == ["/docs/b", "/docs/a"]
    assert records["more"]
    leaf, *_ = page(api, "/certificates")["certificates"]
    assert (leaf["role"], leaf["subject"]) == ("leaf", "spiffe://mesh.test/api")
    assert 0 < leaf["seconds_left"] <= 86_400 + 120


def test_what_is_not_there_is_said(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward="127.0.0.1:9"))
    assert api.get("/audit").status == 404
    assert b"no [audit]" in api.get("/audit").body
    for path in ("/series?tier=2s", "/series?edge=e99", "/topology?window=0", "/denials?limit=1", "/mesh?x"):
        answer = api.get(path)
        assert answer.status == 400, path
        assert answer.body.count(b"\n") == 1
    mesh = page(api, "/mesh")
    poll(lambda: page(api, "/mesh")["sidecars"][0]["state"] == "serving", "it serves")
    assert (mesh["api"], mesh["kind"]) == (1, "sidecar")


def test_who_opens_the_stream_and_never_reads_holds_nothing_up(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward="127.0.0.1:9"))
    host, port = api.admin.rsplit(":", 1)
    before = api.resident
    dumb: list[socket.socket] = []
    for _ in range(40):
        sock = stage.keep(socket.create_connection((host, int(port))))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        dumb.append(sock)
    poll(lambda: answered(api) == b"HTTP/1.1 503", "there is room for 32")
    assert api.status().state == "serving"
    assert api.resident - before < (8 << 20) * WORKERS
    for sock in dumb:
        sock.close()
    poll(lambda: answered(api) == b"HTTP/1.1 200", "who has gone leaves room")


def answered(sidecar: Sidecar) -> bytes:
    """How an answer of /events begins, of which the rest has no end."""
    host, port = sidecar.admin.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock.recv(12, socket.MSG_WAITALL)
