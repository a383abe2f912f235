"""What the demo calls with: one HTTP request over any stream, and everything that came back, even when it broke off."""

from __future__ import annotations

import base64
import json
import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import h11
import trio

from examples.shop import websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_PIECE: Final = 256 * 1024
_ENDS: Final = (h11.EndOfMessage, h11.ConnectionClosed)


@dataclass(frozen=True, slots=True)
class Answer:
    """All the bytes that arrived, and why no more did: empty when the other end finished properly.

    What they mean is told as far as they go: `status` is 0 when no head arrived.
    """

    data: bytes
    error: str
    status: int = 0
    head: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def fields(self) -> Mapping[str, object]:
        """The body as a JSON object; empty when it is none."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}


def request(
    method: str, target: str, fields: Mapping[str, object] | None = None, *, more: Mapping[str, str] | None = None
) -> bytes:
    """An HTTP/1.1 request with a JSON body; the answer ends with the connection. `more` goes into its head."""
    body = b"" if fields is None else json.dumps(fields).encode()
    head = {
        "Host": "shop",
        "Connection": "close",
        **({"Content-Length": str(len(body))} if body else {}),
        **(more or {}),
    }
    return _head(method, target, head) + body


def _head(method: str, target: str, fields: Mapping[str, str]) -> bytes:
    lines = (f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()))
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def ask_unix(path: Path, sent: bytes, *, once_begun: Callable[[], None] | None = None) -> Answer:
    """Call what listens on the unix socket `path`; `once_begun` is called when its body has begun to arrive."""
    return await _ask(await trio.open_unix_socket(path), (sent,), once_begun)


async def ask_tcp(port: int, sent: bytes) -> Answer:
    """Call what listens on this machine's `port`, in the clear."""
    return await _ask(await trio.open_tcp_stream("127.0.0.1", port), (sent,))


async def ask_tls(port: int, sent: bytes, *, roots: Path, identity: Path | None) -> Answer:
    """Call a sidecar without having one: a TLS 1.3 client that trusts `roots` and presents the identity, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # sidecars are known by their SPIFFE ID; who is called here is not the question
    context.load_verify_locations(roots)
    if identity is not None:
        context.load_cert_chain(identity / "chain.pem", identity / "key.pem")
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    return await _ask(trio.SSLStream(plain, context), (sent,))


async def upload(path: Path, target: str, content: Iterable[bytes], *, length: int) -> Answer:
    """POST `content`, of `length` bytes, to what listens on the unix socket `path`."""
    head = _head("POST", target, {"Host": "shop", "Connection": "close", "Content-Length": str(length)})
    stream = await trio.open_unix_socket(path)

    def pieces() -> Iterable[bytes]:
        yield head
        yield from content

    return await _ask(stream, pieces())


async def talk(path: Path, target: str, message: str) -> tuple[Answer, str]:
    """Ask for a WebSocket, say one thing, and hear the reply: the answer, and what was heard if it was agreed to."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    arrived = bytearray()
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(_head("GET", target, {"Host": "shop", **upgrade}))
        while b"\r\n\r\n" not in arrived and (data := await stream.receive_some(_PIECE)):
            arrived += data
        answer = read_answer(bytes(arrived), "")
        if answer.status != 101 or answer.head.get("sec-websocket-accept") != websocket.accept(key):
            return answer, ""
        mask = os.urandom(4)
        await stream.send_all(websocket.frame(websocket.Opcode.TEXT, message.encode(), mask=mask))
        heard = bytearray(arrived.partition(b"\r\n\r\n")[2])
        while (len(heard) < 2 or len(heard) < 2 + heard[1]) and (data := await stream.receive_some(_PIECE)):
            heard += data
        await stream.send_all(websocket.frame(websocket.Opcode.CLOSE, b"", mask=mask))
        async for _ in stream:  # the other side's close frame, and its end
            pass
    return answer, bytes(heard[2:]).decode(errors="replace")


async def _ask(
    stream: trio.abc.Stream, pieces: Iterable[bytes], once_begun: Callable[[], None] | None = None
) -> Answer:
    arrived, error = bytearray(), ""
    try:
        for piece in pieces:
            await stream.send_all(piece)
        async for data in stream:
            arrived += data
            if once_begun is not None and arrived.partition(b"\r\n\r\n")[2]:
                once_begun()
                once_begun = None
    except trio.BrokenResourceError as broken:
        error = _in_words(broken.__cause__ or broken)
    finally:
        await trio.aclose_forcefully(stream)
    return read_answer(bytes(arrived), error)


def read_answer(data: bytes, error: str) -> Answer:
    """Tell what arrived, as h11 reads it; an answer that lacks its end is an error even when the stream has ended."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "shop"), ("Upgrade", "websocket")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    reader.receive_data(b"")
    status, head, body = 0, dict[str, str](), bytearray()
    try:
        while (event := reader.next_event()) is not h11.PAUSED and not isinstance(event, _ENDS):
            if isinstance(event, h11.Response | h11.InformationalResponse):
                status = event.status_code
                head = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        error = error or ("the answer lacks its end" if status else "no answer")
    return Answer(data, error or ("" if status else "closed without a byte"), status, head, bytes(body))


def _in_words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        _, is_alert, alert = (error.reason or "").partition("_ALERT_")
        return f"TLS alert {alert.lower().replace('_', ' ')}" if is_alert else str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
