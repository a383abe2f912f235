"""kill -9 of the service, of its sidecar, or of the caller's, in the middle of a body: nothing short looks whole.

The caller sees its answer break off (its protocol counts bytes), the service its upload; who survives holds nothing
back, and serves as soon as the dead one is there again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, chunks, dial, read_to_end
from tests.scenarios.http_actors import Caller, request
from tests.scenarios.programs import free_port, listening
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage

PLENTY = 4 << 30
FIRST = 1 << 20

APPLICATION = f"""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = {PLENTY} if self.path == "/endless" else 2
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size:
            size -= self.wfile.write(b"x" * min(size, 65536))

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left and (data := self.rfile.read1(65536)):
            left -= len(data)
        self.send_response(200 if left == 0 else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass

ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Cast:
    """Service, its sidecar and the caller's, each on a port that it keeps over its lives."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._script = stage.write("application.py", APPLICATION)
        self._port = free_port()
        api = f"127.0.0.1:{free_port()}"
        self.address = f"127.0.0.1:{free_port()}"
        tables = {
            "api": inbound(forward=f"127.0.0.1:{self._port}", protocol="http").replace("127.0.0.1:0", api),
            "web": outbound(endpoints=[api], protocol="http").replace("127.0.0.1:0", self.address),
        }
        self._files: dict[str, Path] = {name: stage.configure(name, text) for name, text in tables.items()}
        self.sidecars: dict[str, Sidecar] = {}
        stage.on_leaving(lambda: self.kill("service"))
        for name in ("service", "api", "web"):
            self.start(name)

    def start(self, name: str) -> None:
        if name == "service":
            self._service = subprocess.Popen([sys.executable, self._script, str(self._port)])
            poll(lambda: listening(self._port), "the service listens")
        else:
            self.sidecars[name] = self._stage.run(self._files[name])
            self.sidecars[name].everywhere("identity_ready")

    def kill(self, name: str) -> None:
        if name == "service":
            self._service.kill()
            self._service.wait()
        else:
            for pid in self.sidecars[name].pids - {self.sidecars[name].process.pid}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.sidecars[name].kill()

    def is_served(self) -> bool:
        try:
            with Caller(dial(self.address)) as caller:
                return caller.ask("GET", "/").body == b"xx"
        except OSError:
            return False


@pytest.mark.long
@pytest.mark.parametrize("victim", ["service", "api", "web"])
def test_a_download_breaks_off(stage: Stage, victim: str) -> None:
    cast = Cast(stage)
    assert cast.is_served()
    survivors = [sidecar for name, sidecar in cast.sidecars.items() if name != victim]
    with Caller(dial(cast.address)) as caller:
        caller.say(request("GET", "/endless"))
        answer = caller.hear_head()
        taken = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - it is the rest of the body that breaks off
            for piece in caller.pieces(answer):
                taken += len(piece)
                if taken - len(piece) < FIRST <= taken:
                    cast.kill(victim)
        assert answer.status == 200
        assert not answer.complete
        assert taken < PLENTY
    for sidecar in survivors:
        poll(lambda sidecar=sidecar: sidecar.status().listeners[0].open == 0, "nobody holds on to it")  # type: ignore[misc]
    cast.start(victim)
    poll(cast.is_served, "all is as before")
    for sidecar in survivors:
        assert sidecar.log.request(path="/endless").failure in {"response_truncated", "client_gone"}


@pytest.mark.long
@pytest.mark.parametrize("victim", ["service", "api", "web"])
def test_an_upload_breaks_off(stage: Stage, victim: str) -> None:
    cast = Cast(stage)
    assert cast.is_served()
    with Caller(dial(cast.address)) as caller:
        caller.say(request("POST", "/upload", f"Content-Length: {PLENTY}"))
        caller.say(bytes(FIRST))
        cast.kill(victim)
        status = 0
        with contextlib.suppress(ConnectionError):
            while True:
                caller.sock.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    caller.say(bytes(65536))
                with contextlib.suppress(TimeoutError):
                    status = caller.hear().status
                    break
    assert status in {0, 502, 504}  # cut, or told; never a success
    cast.start(victim)
    poll(cast.is_served, "all is as before")


@pytest.mark.long
@pytest.mark.parametrize("victim", ["api", "web"])
def test_a_stream_without_lengths_ends_by_reset(stage: Stage, victim: str) -> None:
    """TCP: who speaks to the survivor sees RST, as from a crashed peer; what the dead one said last is the kernel's."""

    def say_and_listen(sock: socket.socket, visit: Visit) -> None:
        sock.sendall(b"once upon")
        for _ in chunks(sock, visit):
            pass

    service = stage.keep(Service(say_and_listen))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    with dial(web.address("to-api")) as caller:
        assert caller.recv(9) == b"once upon"
        caller.sendall(b"and then")
        poll(lambda: service.arrival().count == len(b"and then"), "it has arrived")
        sidecar = {"api": api, "web": web}[victim]
        for pid in sidecar.pids:
            os.kill(pid, signal.SIGKILL)
        sidecar.kill()
        if victim == "api":
            assert read_to_end(caller) == (b"", Ended.RESET)
        else:
            assert service.visit().ended is Ended.RESET
