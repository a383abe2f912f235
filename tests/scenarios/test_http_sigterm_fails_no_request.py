"""SIGTERM under load: who is told `Connection: close` reconnects elsewhere, and not one request fails."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import dial
from tests.scenarios.http_actors import Caller, Origin, http_api
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

CALLERS = 8
LOADED = 1.0  # seconds of load before and after the signal


class Load:
    """Keep-alive callers that ask one thing after the other, and count what went wrong."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._over = threading.Event()
        self.served = 0
        self.faults: list[str] = []
        self._callers = [threading.Thread(target=self._ask, args=(n,)) for n in range(CALLERS)]
        for caller in self._callers:
            caller.start()

    def end(self) -> None:
        self._over.set()
        for caller in self._callers:
            caller.join()

    def _ask(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            try:
                with self._connect() as caller:
                    closing = False
                    while not closing and not self._over.is_set():
                        turn += 1
                        answer = caller.ask("POST", f"/{number}/{turn}", body=b"x")
                        self.served += 1
                        closing = answer.value("connection") == "close"
                        if answer.status != 200:
                            self.faults.append(f"{answer.start} {answer.body!r}")
            except OSError as error:
                self.faults.append(repr(error))

    def _connect(self) -> Caller:
        """A connection to the first address that still listens, as a load balancer does it."""
        for address in self._addresses:
            try:
                return Caller(dial(address))
            except ConnectionRefusedError:
                continue
        raise ConnectionRefusedError("nobody listens")


@pytest.mark.long
@pytest.mark.parametrize("whose", ["the caller's", "the service's"])
def test_sigterm_under_load_fails_no_request(stage: Stage, whose: str) -> None:
    origin = stage.keep(Origin())
    leaving = http_api(stage, origin)
    identity = stage.identity("/api").directory
    staying = stage.run(stage.configure("api-2", inbound(forward=origin.address, protocol="http"), identity=identity))
    endpoints = [leaving.address("api"), staying.address("api")]
    identity = stage.identity("/web").directory
    near = [
        stage.run(stage.configure(name, outbound(endpoints=endpoints, protocol="http"), identity=identity))
        for name in ("web-1", "web-2")
    ]
    load = Load([sidecar.address("to-api") for sidecar in near])
    time.sleep(LOADED)

    ending = near[0] if whose == "the caller's" else leaving
    ending.signal(signal.SIGTERM)
    assert ending.exit_code() == 0
    assert ending.log.event("stopped")["nothing_cut"] is True
    time.sleep(LOADED)
    load.end()

    print(f"{load.served} requests, {len(load.faults)} failed")
    assert load.faults == []
    assert load.served > 200


@pytest.mark.long
def test_a_long_answer_is_finished(stage: Stage) -> None:
    signalled = threading.Event()

    def long(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        signalled.wait(10)
        talk.say(b"half")

    origin = stage.keep(Origin(long))
    api = http_api(stage, origin)
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], protocol="http"))

    with Caller(dial(web.address("to-api"))) as caller:
        caller.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = caller.hear_head()
        for sidecar in (api, web):
            sidecar.signal(signal.SIGTERM)
            sidecar.log.event("draining")
        signalled.set()
        assert caller.read_body(head) == b"halfhalf"

    assert [api.exit_code(), web.exit_code()] == [0, 0]
