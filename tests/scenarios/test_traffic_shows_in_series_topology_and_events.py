"""What goes through two sidecars is what both of them tell: in the curves, in the graph and in the stream of events."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.scenarios.http_actors import Origin, mesh_pair, response
from tests.scenarios.stage import PATIENCE, poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Sidecar, Stage

pytestmark = pytest.mark.long


def points(sidecar: Sidecar, tier: str = "1s") -> dict[tuple[str, str, str, str], list[float]]:
    """What each edge has had in all: without the column, by reporter, source, target and protocol."""
    told = sidecar.get(f"/series?tier={tier}").json
    edges = told["edges"]
    assert isinstance(edges, list)
    return {
        (edge["reporter"], edge["source"], edge["target"], edge["protocol"]): [
            sum(values) for values in list(zip(*edge["points"], strict=True))[1:]
        ]
        for edge in edges
    }


class Events:
    """The stream of events, as it comes; a context."""

    def __init__(self, sidecar: Sidecar) -> None:
        host, port = sidecar.admin.rsplit(":", 1)
        self._sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self._sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._lines = self._sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._sock.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, dict[str, Any]]:
        kind = ""
        for line in self._lines:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return kind, json.loads(line[6:])
        raise AssertionError("the stream has ended")


def answer(talk: Talk, asked: Message) -> None:
    talk.read_body(asked)
    talk.say(response(503 if asked.target == "/broken" else 200, b"12345"))


def test_what_was_asked_is_what_is_told(stage: Stage) -> None:
    stage.write("web.allow.toml", '[[allow]]\nname = "web-reads"\nfrom = "/web"\nmethods = ["GET", "POST"]\n')
    pair = mesh_pair(stage, stage.keep(Origin(answer)))
    heard = stage.keep(Events(pair.api))
    assert next(heard)[0] == "state"
    with pair.caller() as caller:
        for _ in range(20):
            assert caller.ask("GET", "/fine").status == 200
        assert caller.ask("POST", "/fine", body=b"123").status == 200
        assert caller.ask("GET", "/broken").status == 503
        assert caller.ask("DELETE", "/fine").status == 403
    inbound, outbound = ("destination", "/web", "/api", "http"), ("source", "/web", "/api", "http")

    def told(sidecar: Sidecar, edge: tuple[str, str, str, str], requests: int) -> bool:
        return points(sidecar).get(edge, [0])[0] == requests

    poll(lambda: told(pair.api, inbound, 22), "22 requests in the series of api")
    poll(lambda: told(pair.web, outbound, 23), "23 requests in the series of web")
    for tier in ("1s", "10s", "1m"):
        [requests, errors, denied, bytes_in, bytes_out, seconds, opened] = points(pair.api, tier)[inbound]
        assert (requests, errors, denied, bytes_in, bytes_out) == (22, 1, 1, 3, 22 * 5)
        assert 0 < seconds < PATIENCE
        assert opened >= 1
    graph = pair.api.get("/topology?window=600").json["elements"]
    assert isinstance(graph, dict)
    assert {node["data"]["id"] for node in graph["nodes"]} == {"/web", "/api"}
    [edge] = [edge["data"] for edge in graph["edges"]]
    assert (edge["source"], edge["target"], edge["isMTLS"]) == ("/web", "/api", "100")
    assert edge["mesh"]["errors"] == round(1 / 22, 6)
    assert edge["mesh"]["p50"] > 0

    requests = denied = 0
    for kind, data in heard:
        if kind == "tick":
            for each in data["edges"]:
                requests += each["point"][1]
                denied += each["point"][3]
        if (requests, denied) == (22, 1):
            break
