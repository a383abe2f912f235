"""Who speaks HTTP: an origin that remembers what it was asked, and a caller who says just the bytes it is given.

Both read simply and strictly, and share nothing with the code under test.

    origin = stage.keep(Origin())
    pair = mesh_pair(stage, origin)                       # web's sidecar -> mTLS -> api's sidecar -> origin
    with pair.caller() as caller:
        assert caller.ask("GET", "/orders").status == 200
    assert origin.requests[0].target == "/orders"
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.scenarios.actors import Service, client_context, dial, tls_dial
from tests.scenarios.stage import PATIENCE, Sidecar, Stage, inbound, outbound

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.scenarios.actors import Visit

_CHUNK = 256 * 1024
CLOSES = "Connection: close"
BARRIER = "/barrier"  # what is asked to know that everything before has been told


class Ended(ConnectionError):
    """The other side ended where a message was to go on."""


@dataclass
class Message:
    """A request or a response, as it came."""

    start: str
    fields: list[tuple[str, str]]
    visit: int = 0  # requests: which connection of the origin it came on
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[Message] = field(default_factory=list)  # responses: what came before
    complete: bool = False

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def value(self, name: str) -> str:
        """The one value of a field; empty where there is none."""
        [value] = self.values(name) or [""]
        return value


class Talk:
    """One connection, as either end uses it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def say(self, raw: bytes) -> None:
        """Say these bytes."""
        self.sock.sendall(raw)

    def has_ended(self) -> bool:
        """Wait for what comes next; whether that is the end."""
        return not self._buffer and not self._more()

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < count:
            if not self._more():
                raise Ended(f"after {bytes(self._buffer)!r}")
        return self._take(count)

    def read_head(self) -> Message | None:
        """The next head; None where the other side ended between messages."""
        if self.has_ended():
            return None
        start = self._line()
        return Message(start, list(self._fields()))

    def pieces(self, message: Message) -> Iterator[bytes]:
        """The body as it comes; the message is complete afterwards."""
        if message.values("transfer-encoding"):
            assert message.value("transfer-encoding") == "chunked"
            assert not message.values("content-length")
            while left := int(self._line(), 16):
                yield from self._portions(left)
                assert self._line() == ""
            message.trailers = list(self._fields())
        elif message.values("content-length"):
            yield from self._portions(int(message.value("content-length")))
        elif message.start.startswith("HTTP/"):
            while not self.has_ended():
                yield self._take(len(self._buffer))
        message.complete = True

    def read_body(self, message: Message) -> bytes:
        """The whole body, also in `message.body`."""
        message.body = b"".join(self.pieces(message))
        return message.body

    def weigh_body(self, message: Message) -> tuple[int, int]:
        """Read the body and keep only its size and CRC-32."""
        count = crc = 0
        for piece in self.pieces(message):
            count += len(piece)
            crc = zlib.crc32(piece, crc)
        return count, crc

    def _portions(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._buffer and not self._more():
                raise Ended(f"{count} bytes of a body are missing")
            portion = self._take(min(count, len(self._buffer)))
            count -= len(portion)
            yield portion

    def _fields(self) -> Iterator[tuple[str, str]]:
        while line := self._line():
            name, colon, value = line.partition(":")
            assert colon, line
            yield name, value.strip(" ")

    def _line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._more():
                raise Ended(f"after {bytes(self._buffer)!r}")
        line = self._take(end + 2)
        assert b"\n" not in line[:-2]
        return line[:-2].decode("latin-1")

    def _more(self) -> bool:
        data = self.sock.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


class Caller(Talk):
    """A client on one connection."""

    def ask(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Message:
        """Make a request and hear its answer."""
        self.say(request(method, target, *fields, body=body))
        return self.hear(method)

    def hear(self, method: str = "GET") -> Message:
        """The next final answer, its body included; `method` is what it answers."""
        answer = self.hear_head()
        if method == "HEAD" or answer.status in {204, 304}:
            answer.complete = True
        else:
            self.read_body(answer)
        return answer

    def hear_head(self) -> Message:
        """The head of the next final answer, with the interim ones before it."""
        interim: list[Message] = []
        while True:
            head = self.read_head()
            if head is None:
                raise Ended("before an answer")
            assert head.start.startswith("HTTP/1.1 ")
            if head.status >= 200 or head.status == 101:
                head.interim = interim
                return head
            interim.append(head)


def request(method: str, target: str, *fields: str, body: bytes | None = None) -> bytes:
    """A request as bytes, framed by its length if it has a body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: api.test", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def response(status: int, body: bytes = b"", *fields: str) -> bytes:
    """A response as bytes, framed by its length."""
    lines = [f"HTTP/1.1 {status} As It Is", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


Respond = Callable[[Talk, Message], None]


def ok(talk: Talk, asked: Message) -> None:
    """Read the whole request, then say ok."""
    talk.read_body(asked)
    talk.say(response(200, b"ok"))


def fingerprint(method: str, target: str, body: bytes) -> bytes:
    """What `fingerprints` answers: it belongs to one request only."""
    return hashlib.sha256(b"%b %b %b" % (method.encode(), target.encode(), body)).hexdigest().encode()


def fingerprints(talk: Talk, asked: Message) -> None:
    """Answer with what tells this request from all others."""
    body = talk.read_body(asked)
    talk.say(response(200, fingerprint(asked.method, asked.target, body)))


def raw(answer: bytes) -> Respond:
    """Answer every request with these bytes, and end there."""

    def respond(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(answer)
        raise Ended

    return respond


class Origin(Service):
    """The service behind a sidecar; `requests` are those whose head has come, in order, unless it is told to forget."""

    def __init__(
        self, respond: Respond = ok, *, path: Path | None = None, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        super().__init__(self._converse, path=path, port=port, host=host)
        self.respond = respond
        self.requests: list[Message] = []
        self.remembers = True

    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.target for asked in self.requests]

    def start_over(self) -> None:
        """End all connections, wait until the sidecar knows it, and forget everything."""
        self.hang_up()
        for visit in self.visits:
            assert visit.over.wait(PATIENCE)
        self.visits.clear()
        self.requests.clear()
        self.respond = ok

    def _converse(self, sock: socket.socket, visit: Visit) -> None:
        talk, number = Talk(sock), self.visits.index(visit)
        while (asked := talk.read_head()) is not None:
            asked.visit = number
            if self.remembers:
                self.requests.append(asked)
            self.respond(talk, asked)


@dataclass(frozen=True)
class Pair:
    """Two sidecars in HTTP mode between a caller, /web, and an origin, /api."""

    stage: Stage
    api: Sidecar
    web: Sidecar

    def caller(self) -> Caller:
        """A plain caller at web's sidecar."""
        return Caller(dial(self.web.address("to-api")))

    def mtls_caller(self, path: str = "/web") -> Caller:
        """A caller with an identity of its own, straight at api's sidecar."""
        return mtls_caller(self.api, client_context(self.stage.identity(path)))

    def turn_pages(self) -> None:
        """Look only at what the sidecars log from now on; whatever was before has been told."""
        with self.caller() as caller:
            said = caller.ask("GET", BARRIER).value("x-request-id")
        for sidecar in (self.api, self.web):
            sidecar.log.request(request_id=said)
            sidecar.log.turn_page()


def mtls_caller(api: Sidecar, context: ssl.SSLContext) -> Caller:
    """A caller at the inbound listener `api`."""
    return Caller(tls_dial(api.address("api"), context))


def mesh_pair(stage: Stage, origin: Service, *, allow: str = "", api_more: str = "", web_more: str = "") -> Pair:
    """Start both sidecars; `allow` is api's allow-list, by default all of /web's requests."""
    api = http_api(stage, origin, allow=allow, more=api_more)
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], protocol="http", more=web_more))
    return Pair(stage, api, web)


def http_api(stage: Stage, origin: Service, *, allow: str = "", more: str = "") -> Sidecar:
    """Start api's sidecar alone."""
    if allow:
        stage.write("web.allow.toml", f'{allow}\n[[allow]]\nname = "barrier"\nfrom = "/web"\npaths = "{BARRIER}"\n')
    return stage.sidecar("api", inbound(forward=origin.address, protocol="http", more=more))
