"""HTTP between processes of one machine, over a unix socket or a loopback port: all the network code the shop has.

Nothing here knows certificates, encryption, or who may call whom: that is the part of the sidecars. What a service gets
of it is a name, in a field of the request.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from . import websocket

if TYPE_CHECKING:
    from email.message import Message
    from io import BufferedIOBase

Fields = Mapping[str, object]
ENDING = threading.Event()  # set once the service is to end; a stream without an end of its own looks at it
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A status with a JSON object, or with lines of text that are sent as they come, until there are no more."""

    status: int
    body: Fields | Iterable[str]


@dataclass(frozen=True, slots=True)
class Talk:
    """Agrees to a WebSocket; `answer` makes of each text message what is sent back."""

    answer: Callable[[str], str]


class Refused(Exception):
    """Raised by a route to answer with `status` and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.reply = Reply(status, {"error": sentence})


class Unreachable(Exception):
    """The other service did not answer, or its answer broke off."""


class Request:
    """What a route is given: who calls, and a body of any length to read."""

    def __init__(self, headers: Message, stream: BufferedIOBase) -> None:
        # As CGI and WSGI do, which know one name for all spellings: two fields would show as two callers.
        folded = ((name.lower().replace("_", "-"), value) for name, value in headers.items())
        self.caller = ", ".join(value for name, value in folded if name == "x-mesh-client-id")
        # Passed on to whoever is called on behalf of this request: all a service does for traces to join up.
        self.trace = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        self.left = int(headers.get("Content-Length") or 0)
        self._stream = stream

    def pieces(self) -> Iterator[bytes]:
        """Read the body piece by piece."""
        while self.left:
            piece = self._stream.read(min(self.left, _PIECE))
            if not piece:
                raise ConnectionError("the request broke off")
            self.left -= len(piece)
            yield piece

    def fields(self) -> Fields:
        """Read the body as a JSON object."""
        try:
            fields = json.loads(b"".join(self.pieces()) or b"{}")
        except ValueError:
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise Refused(400, "the body is not a JSON object")
        return fields


Routes = Mapping[tuple[str, str], Callable[[Request], Reply | Talk]]  # ("POST", "/orders") -> what is done then


def serve(address: str, routes: Routes) -> None:
    """Answer requests on `unix:PATH` or `HOST:PORT` until SIGTERM or SIGINT; requests under way are finished."""
    server = _Server(address, routes)

    def stop(_signal: int, _frame: object) -> None:
        ENDING.set()
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that this thread is in

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    with server:
        server.serve_forever(poll_interval=0.1)
    _clear(address)


def call(address: str, method: str, path: str, fields: Fields, trace: Mapping[str, str]) -> Reply:
    """Send one request to `unix:PATH` or `HOST:PORT`, as a part of `trace`; return the reply. Raises Unreachable."""
    connection = _UnixConnection(address) if _unix_path(address) else http.client.HTTPConnection(address, timeout=10)
    try:
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", **trace}
            connection.request(method, path, body=json.dumps(fields), headers=headers)
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
    protocol_version = "HTTP/1.1"  # connections are used again, and an answer cut short cannot look complete
    timeout: ClassVar[float | None] = 10

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        route = self.server.routes.get((self.command, self.path.partition("?")[0]))
        request = Request(self.headers, self.rfile)
        try:
            reply = Refused(404, "no such page").reply if route is None else route(request)
        except Refused as refused:
            reply = refused.reply
        if request.left:
            self.close_connection = True  # the rest of the body must not be taken for the next request
        if isinstance(reply, Talk):
            self._talk(reply)
        elif isinstance(reply.body, Mapping):
            self._send_fields(reply.status, reply.body)
        else:
            self._send_lines(reply.status, reply.body)

    do_POST = do_GET  # noqa: N815

    def _send_fields(self, status: int, fields: Fields) -> None:
        content = json.dumps(fields).encode() + b"\n"
        self._begin(status, "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_lines(self, status: int, lines: Iterable[str]) -> None:
        self._begin(status, "application/jsonl")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line.encode()), line.encode()))
        self.wfile.write(b"0\r\n\r\n")

    def _begin(self, status: int, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if self.close_connection:
            self.send_header("Connection", "close")

    def _talk(self, talk: Talk) -> None:
        key = self.headers.get("Sec-WebSocket-Key")
        if key is None:
            self._send_fields(426, {"error": "this page is a WebSocket"})
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", websocket.accept(key))
        self.end_headers()
        self.close_connection = True
        opcode, payload = websocket.read_frame(self.rfile)
        while opcode == websocket.Opcode.TEXT:
            answer = talk.answer(payload.decode(errors="replace"))
            self.wfile.write(websocket.frame(websocket.Opcode.TEXT, answer.encode()))
            opcode, payload = websocket.read_frame(self.rfile)
        self.wfile.write(websocket.frame(websocket.Opcode.CLOSE, b""))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
        print(format % args, file=sys.stderr, flush=True)
