"""What the demo calls with: one HTTP request over any stream, and everything that came back, even when it broke off."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """All the bytes that arrived, and why no more did: empty when the other end finished properly."""

    data: bytes
    error: str

    @property
    def body(self) -> bytes:
        """What follows the HTTP head; empty when not even that arrived."""
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def fields(self) -> Mapping[str, object]:
        """The body as a JSON object; empty when it is none."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}


def request(method: str, path: str, fields: Mapping[str, object]) -> bytes:
    """An HTTP/1.0 request: the answer ends with the connection."""
    body = json.dumps(fields).encode()
    return f"{method} {path} HTTP/1.0\r\nHost: shop\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def ask_unix(path: Path, sent: bytes) -> Answer:
    """Call what listens on the unix socket `path`."""
    return await _ask(await trio.open_unix_socket(path), sent)


async def ask_tcp(port: int, sent: bytes) -> Answer:
    """Call what listens on this machine's `port`, in the clear."""
    return await _ask(await trio.open_tcp_stream("127.0.0.1", port), sent)


async def ask_tls(port: int, sent: bytes, *, roots: Path, identity: Path | None) -> Answer:
    """Call a sidecar without having one: a TLS 1.3 client that trusts `roots` and presents the identity, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # sidecars are known by their SPIFFE ID; who is called here is not the question
    context.load_verify_locations(roots)
    if identity is not None:
        context.load_cert_chain(identity / "chain.pem", identity / "key.pem")
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    return await _ask(trio.SSLStream(plain, context), sent)


async def _ask(stream: trio.abc.Stream, sent: bytes) -> Answer:
    arrived = bytearray()
    try:
        await stream.send_all(sent)
        async for data in stream:
            arrived += data
    except trio.BrokenResourceError as error:
        return Answer(bytes(arrived), _in_words(error.__cause__ or error))
    finally:
        await trio.aclose_forcefully(stream)
    return Answer(bytes(arrived), "")


def _in_words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        _, is_alert, alert = (error.reason or "").partition("_ALERT_")
        return f"TLS alert {alert.lower().replace('_', ' ')}" if is_alert else str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
