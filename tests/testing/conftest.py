"""A mesh and a service behind it, on threads: as in a project whose tests know nothing of trio."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from meshproxy.testing import Mesh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meshproxy.testing import Place


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.headers["x-mesh-client-id"]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None: ...  # noqa: A002 - as http.server calls it


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path / "mesh") as made:
        yield made


@pytest.fixture
def service() -> Iterator[int]:
    """The port of an HTTP service that tells who called it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a tcp service that gives back what it gets, one connection after another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_echo, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1024):
                connection.sendall(data)


def get(place: Place, path: str) -> tuple[int, str]:
    """Ask on a connection of its own; returns status and body."""
    connection = http.client.HTTPConnection(*place, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
