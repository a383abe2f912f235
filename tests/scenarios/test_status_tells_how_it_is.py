"""`/status` and the command that reads it: who we are, until when, where each listener leads and what became of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.scenarios.actors import Ended, Service, client_context, echo, exchange, tls_dial, underneath
from tests.scenarios.http_actors import Origin, mesh_pair
from tests.scenarios.stage import inbound, meshproxy, outbound, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage


def busy_sidecar(stage: Stage, service: Service) -> Sidecar:
    """One that has served one caller and denied another."""
    api = stage.sidecar("api", inbound(forward=service.address, more="max_connections = 77"))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    assert exchange(web.address("to-api"), b"hello") == b"hello"
    with tls_dial(api.address("api"), client_context(stage.identity("/mallory"))) as mallory:
        assert underneath(mallory) == (b"", Ended.RESET)
    poll(lambda: api.status().listeners[0].open == 0, "both gone")
    return api


def test_status_has_the_documented_shape(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = busy_sidecar(stage, service)
    answer = api.get("/status")

    assert (answer.status, answer.content_type) == (200, "application/json")
    status = answer.json
    assert (status["state"], status["pid"], status["file"]) == ("serving", api.process.pid, str(api.file))
    identity = status["identity"]
    assert isinstance(identity, dict)
    assert (identity["id"], identity["ready"], identity["reason"]) == ("spiffe://mesh.test/api", True, "")
    assert [each["role"] for each in identity["certificates"]] == ["leaf", "intermediate", "root"]
    assert 86_000 < identity["certificates"][0]["seconds_left"] <= 86_400
    [listener] = api.status().listeners
    assert (listener.name, listener.direction, listener.to) == ("api", "inbound", service.address)
    assert (listener.listen, listener.protocol, listener.mode) == (api.address("api"), "tcp", "enforce")
    assert (listener.open, listener.max_connections) == (0, 77)
    assert listener.decided == {"allow": 1, "deny": 1}
    assert listener.ended == {"clean": 1, "denied": 1}
    assert listener.policy is not None
    assert (listener.policy.rules, listener.policy.generation) == (1, 1)
    [denial] = api.status().denials
    assert (denial.caller, denial.reason) == ("spiffe://mesh.test/mallory", "no_rule")


def test_the_status_command_says_it_in_words(stage: Stage) -> None:
    api = busy_sidecar(stage, stage.keep(Service(echo)))
    file = pointing_at(stage, api)

    said = meshproxy("status", file)

    assert said.returncode == 0, said.stderr
    for words in ("serving", "spiffe://mesh.test/api", "1 allow, 1 deny", "spiffe://mesh.test/mallory", "no_rule"):
        assert words in said.stdout
    assert "web.allow.toml: 1 rule, generation 1" in said.stdout
    assert "answered" not in said.stdout
    as_json = meshproxy("status", "--json", file)
    assert json.loads(as_json.stdout)["identity"]["id"] == "spiffe://mesh.test/api"


def test_an_http_listener_tells_its_answers_by_class(stage: Stage) -> None:
    origin = stage.keep(Origin())
    pair = mesh_pair(stage, origin, allow='[[allow]]\nfrom = "/web"\nmethods = "GET"\npaths = "/orders"')
    with pair.caller() as caller:
        for method, target in (("GET", "/orders"), ("GET", "/orders"), ("GET", "/refunds"), ("GET", "//")):
            caller.ask(method, target)
    poll(lambda: pair.web.status().listeners[0].open == 0, "the caller gone")

    assert pair.web.status().listeners[0].answered == {"2xx": 2, "4xx": 2}  # web's own sidecar refuses the last
    assert pair.api.status().listeners[0].answered == {"2xx": 2, "4xx": 1}
    said = meshproxy("status", pointing_at(stage, pair.api)).stdout
    assert "answered: 2 2xx, 1 4xx" in said
    assert "web.allow.toml: 2 rules, generation 1" in said


def test_the_status_command_says_that_nobody_answers(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward="127.0.0.1:8080"))
    file = pointing_at(stage, api)
    api.kill()

    said = meshproxy("status", file)

    assert said.returncode == 2
    assert said.stderr == f"meshproxy: no sidecar answers at {api.admin}; start it with: meshproxy run {file}\n"


def pointing_at(stage: Stage, sidecar: Sidecar) -> Path:
    """The sidecar's file with the admin port the system picked written into it, as a person's file has it."""
    return stage.write("asked.toml", sidecar.file.read_text().replace("127.0.0.1:0", sidecar.admin, 1))
