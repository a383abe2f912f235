"""Endpoints are tried in turn: when the first is killed, the next connection goes to the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, echo, exchange, source
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_second_endpoint_takes_over(stage: Stage) -> None:
    first_service, second_service = stage.keep(Service(source(5))), stage.keep(Service(source(7)))
    api = stage.identity("/api").directory
    first = stage.sidecar("first", inbound(forward=first_service.address), identity=api)
    second = stage.sidecar("second", inbound(forward=second_service.address), identity=api)
    web = stage.sidecar("web", outbound(endpoints=[first.address("api"), second.address("api")]))

    assert len(exchange(web.address("to-api"), b"")) == 5
    first.kill()
    assert len(exchange(web.address("to-api"), b"")) == 7

    assert web.log.event("upstream_failed", phase="connect")["endpoint"] == first.address("api")
    assert web.log.connection(upstream=first.address("api")).end == "clean"
    assert web.log.connection(upstream=second.address("api")).end == "clean"


def test_an_impostor_before_the_right_one_is_passed_over(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    impostor = stage.sidecar("impostor", inbound(forward=service.address))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[impostor.address("api"), api.address("api")]))

    assert exchange(web.address("to-api"), b"hello") == b"hello"

    assert web.log.event("upstream_failed", phase="identity")["endpoint"] == impostor.address("api")
    assert web.log.connection(end="clean").upstream == api.address("api")
