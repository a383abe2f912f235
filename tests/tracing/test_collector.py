"""A collector that lies, breaks off or talks without end costs one batch and says so; it holds up nobody."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.settings.schema import CollectorEndpoint, TracingSettings
from meshproxy.tracing.collector import PlainCollector
from meshproxy.tracing.delivery import NotSent, Reply
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.dial import Resolver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def asked(nursery: trio.Nursery, answer: Callable[[trio.SocketStream], Awaitable[None]]) -> tuple[Reply, bytes]:
    """Send a batch to who answers like this; returns the reply and what was heard."""
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while not data.endswith(b"}"):
            data += await stream.receive_some()
        heard.append(data)
        with contextlib.suppress(trio.BrokenResourceError):  # it was enough for the other side
            await answer(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    endpoint = CollectorEndpoint(f"http://127.0.0.1:{port}", TcpAddress("127.0.0.1", port), "/v1/traces", is_tls=False)
    collector = PlainCollector(TracingSettings(endpoint), Resolver(), random.Random(1))
    reply = await collector.send(b'{"resourceSpans":[]}')
    return reply, heard[0]


async def test_a_batch_is_one_request_that_makes_no_spans_itself(nursery: trio.Nursery) -> None:
    reply, heard = await asked(nursery, lambda stream: stream.send_all(OK))
    assert reply == Reply(200, b"{}")
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/traces HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in head + b"\r\n"
    (traceparent,) = [line for line in head.split(b"\r\n") if line.startswith(b"traceparent: ")]
    assert traceparent.endswith(b"-00")
    assert body == b'{"resourceSpans":[]}'
    nursery.cancel_scope.cancel()


async def test_when_to_come_back_is_heard(nursery: trio.Nursery) -> None:
    later = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    reply, _ = await asked(nursery, lambda stream: stream.send_all(later))
    assert reply == Reply(503, b"", 7)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not acceptable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "not acceptable"),
        (b"", "not acceptable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, "body of more"),
    ],
    ids=["another protocol", "half an answer", "nothing", "too much"],
)
async def test_what_is_no_answer_is_told(nursery: trio.Nursery, said: bytes, why: str) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(said)
        await stream.send_eof()

    with pytest.raises(NotSent, match=why):
        await asked(nursery, answer)
    nursery.cancel_scope.cancel()
