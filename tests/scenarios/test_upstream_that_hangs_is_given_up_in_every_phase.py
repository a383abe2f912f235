"""An upstream that stands still while it accepts, shakes hands, takes a request or answers: given up in time, named.

Beside it, through the same two sidecars, everybody else is served.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.scenarios.actors import Service, dial
from tests.scenarios.http_actors import Caller, Ended, Origin, request
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.actors import Visit
    from tests.scenarios.http_actors import Message
    from tests.scenarios.stage import Sidecar, Stage

LIMITS = 'connect_timeout = "1s"\nhandshake_timeout = "1s"\nresponse_timeout = "1s"\nidle_timeout = "2s"'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
MUCH = 64 << 20


@contextlib.contextmanager
def full_queue() -> Iterator[str]:
    """An address where connections are not even accepted."""
    with contextlib.ExitStack() as sockets:
        queue = sockets.enter_context(socket.socket())
        queue.bind(("127.0.0.1", 0))
        queue.listen(0)
        for _ in range(4):  # a backlog of 0 takes one or two; then SYNs are dropped
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(queue.getsockname())
        yield f"127.0.0.1:{queue.getsockname()[1]}"


def hung_service(stage: Stage, words: bytes, *, reads: bool = True) -> str:
    """A service that says this to the first request, and then nothing; or that does not even read it."""
    released = threading.Event()  # with the stage

    def stand_still(sock: socket.socket, visit: Visit) -> None:
        if reads:
            visit.take(sock.recv(65536))
        sock.sendall(words)
        released.wait()

    stage.on_leaving(released.set)
    return stage.keep(Service(stand_still)).address


@pytest.fixture(scope="module")
def sidecars(shared_stage: Stage) -> tuple[Sidecar, Sidecar]:
    """/api's with a listener for each way to hang, and /web's with one for each of those."""
    stage = shared_stage
    services = {
        "accept": stage.keep(full_queue()),
        "head": hung_service(stage, b""),
        "half-a-head": hung_service(stage, HEAD[:20]),
        "body": hung_service(stage, HEAD + b"half"),
        "upload": hung_service(stage, b"", reads=False),
        "fine": stage.keep(Origin()).address,
    }
    tables = [inbound(name, forward=to, protocol="http", more=LIMITS) for name, to in services.items()]
    api = stage.sidecar("api", "".join(tables))
    ways = {name: api.address(name) for name in services} | {"handshake": hung_service(stage, b"", reads=False)}
    more = LIMITS.replace('response_timeout = "1s"', 'response_timeout = "20s"').replace('"2s"', '"20s"')
    out = [outbound(name, endpoints=[way], protocol="http", more=more) for name, way in ways.items()]
    return api, stage.sidecar("web", "".join(out))


class Beside:
    """Somebody who is served meanwhile."""

    def __init__(self, web: Sidecar) -> None:
        self._web = web
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.served = 0
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with Caller(dial(self._web.address("fine"))) as caller:
            while not self._over.wait(0.01):
                answer = caller.ask("POST", "/", body=b"x")
                self.served += 1
                if answer.status != 200:
                    self.failed.append(answer.start)


@pytest.mark.parametrize(
    ("phase", "status", "error", "failure"),
    [
        ("accept", 504, "connection_timeout", "connect_timeout"),
        ("handshake", 504, "connection_timeout", "connect_timeout"),
        ("head", 504, "http_response_timeout", "response_timeout"),
        ("half-a-head", 504, "http_response_timeout", "response_timeout"),
    ],
)
def test_before_an_answer(sidecars: tuple[Sidecar, Sidecar], phase: str, status: int, error: str, failure: str) -> None:
    api, web = sidecars
    with Beside(web) as beside, Caller(dial(web.address(phase))) as caller:
        began = time.monotonic()
        answer = caller.ask("POST", f"/{phase}", body=b"x")
        took = time.monotonic() - began
        assert (answer.status, answer.value("proxy-status")) == (status, f"meshproxy; error={error}")
    assert 0.9 < took < 10
    assert beside.served > 10
    assert beside.failed == []
    told = web if phase == "handshake" else api
    assert told.log.request(path=f"/{phase}").failure == failure


def test_in_the_middle_of_an_answer(sidecars: tuple[Sidecar, Sidecar]) -> None:
    api, web = sidecars
    with Beside(web) as beside, Caller(dial(web.address("body"))) as caller:
        caller.say(request("GET", "/body"))
        answer = caller.hear_head()
        with pytest.raises(ConnectionError) as cut:
            caller.read_body(answer)
        assert isinstance(cut.value, ConnectionResetError | Ended)
        assert not answer.complete
    assert beside.failed == []
    assert api.log.request(path="/body").failure == "response_truncated"


@pytest.mark.long
def test_in_the_middle_of_an_upload(sidecars: tuple[Sidecar, Sidecar]) -> None:
    api, web = sidecars
    with Beside(web) as beside, Caller(dial(web.address("upload"))) as caller:
        caller.say(request("PUT", "/upload", f"Content-Length: {MUCH}"))
        answers: list[Message | None] = []

        def hear() -> None:
            with contextlib.suppress(ConnectionError):
                answers.append(caller.hear())

        hearing = threading.Thread(target=hear)
        hearing.start()
        caller.sock.settimeout(60)
        with contextlib.suppress(ConnectionError):
            caller.say(bytes(MUCH))
        hearing.join()
    assert all(answer is not None and answer.status >= 500 for answer in answers)  # told, or cut off
    assert beside.failed == []
    assert api.log.request(path="/upload", within=30).failure == "response_timeout"
