"""HTTP between processes of one machine, over a unix socket or a loopback port: all the network code the shop has.

Nothing here knows certificates, encryption, or who may call whom: that is the part of the sidecars.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reply:
    """A status with a JSON object, or with lines of text that are sent as they come, until there are no more."""

    status: int
    body: Fields | Iterable[str]


class Refused(Exception):
    """Raised by a route to answer with `status` and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.reply = Reply(status, {"error": sentence})


class Unreachable(Exception):
    """The other service did not answer, or its answer broke off."""


Routes = Mapping[tuple[str, str], Callable[[Fields], Reply]]  # ("POST", "/orders") -> what is done then


def serve(address: str, routes: Routes) -> None:
    """Answer requests on `unix:PATH` or `HOST:PORT` until SIGTERM or SIGINT; requests under way are finished."""
    server = _Server(address, routes)

    def stop(_signal: int, _frame: object) -> None:
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that this thread is in

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    with server:
        server.serve_forever(poll_interval=0.1)
    _clear(address)


def call(address: str, method: str, path: str, fields: Fields) -> Reply:
    """Send one request to `unix:PATH` or `HOST:PORT`, return the reply; raises Unreachable."""
    connection = _UnixConnection(address) if _unix_path(address) else http.client.HTTPConnection(address, timeout=10)
    try:
        with contextlib.closing(connection):
            connection.request(method, path, body=json.dumps(fields), headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            return Reply(response.status, json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def _unix_path(address: str) -> str | None:
    kind, _, path = address.partition(":")
    return path if kind == "unix" else None


def _clear(address: str) -> None:
    """Remove the socket of a service that has ended; a killed one leaves it, and then nobody else can listen there."""
    path = _unix_path(address)
    if path is not None:
        Path(path).unlink(missing_ok=True)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("shop", timeout=10)
        self._path = _unix_path(address) or ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = False  # on leaving, wait for the requests under way
    request_queue_size = 128

    def __init__(self, address: str, routes: Routes) -> None:
        self.routes = routes
        path = _unix_path(address)
        if path is None:
            host, _, port = address.rpartition(":")
            super().__init__((host, int(port)), _Handler)
        else:
            self.address_family = socket.AF_UNIX
            _clear(address)
            super().__init__(path, _Handler)  # type: ignore[arg-type] # typeshed knows host and port only

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks DNS for a name that a path does not have


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float | None] = 10

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_GET  # noqa: N815

    def _answer(self) -> None:
        assert isinstance(self.server, _Server)
        route = self.server.routes.get((self.command, self.path))
        try:
            reply = Refused(404, "no such page").reply if route is None else route(self._fields())
        except Refused as refused:
            reply = refused.reply
        self.send_response(reply.status)
        if isinstance(reply.body, Mapping):
            content = json.dumps(reply.body).encode() + b"\n"
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        # No length: in HTTP/1.0 the body ends with the connection, so a connection cut short looks like a short body.
        self.send_header("Content-Type", "application/jsonl")
        self.end_headers()
        for line in reply.body:
            self.wfile.write(line.encode())

    def _fields(self) -> Fields:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        try:
            fields = json.loads(content or b"{}")
        except ValueError:
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise Refused(400, "the body is not a JSON object")
        return fields

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
        print(format % args, file=sys.stderr, flush=True)
