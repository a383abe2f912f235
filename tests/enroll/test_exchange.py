"""One request, one answer: both read by our own floor, both bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshproxy.enroll.exchange import Answer, Request, Unsound, ask, read_request, send_answer
from meshproxy.wire.stream import TlsStream
from meshproxy.wire.tls import TlsConnection
from tests.wire.conftest import Contexts, Wires, contexts, handshake_both, wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

__all__ = ["contexts", "wires"]

Ends = tuple[TlsStream, TlsStream]


@pytest.fixture
async def ends(contexts: Contexts, wires: Wires) -> AsyncIterator[Ends]:
    near, far = wires.tcp()
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    await handshake_both(client, server)
    made = TlsStream(client), TlsStream(server)
    yield made
    for each in made:
        each.abort()  # and whoever lingers has nobody to wait for


async def answer_with(server: TlsStream, answer: Answer, heard: list[Request | None]) -> None:
    request = await read_request(server, most=1000)
    heard.append(request)
    assert request is not None
    await send_answer(server, answer, to=request.method)
    await server.close()


@pytest.mark.parametrize(
    "request_",
    [Request(b"GET", b"/v1/trust", b"loaded=3"), Request(b"POST", b"/v1/renew", b"", b'{"csr":""}')],
    ids=["get", "post"],
)
async def test_what_is_asked_arrives_and_what_is_answered_too(
    ends: Ends, nursery: trio.Nursery, request_: Request
) -> None:
    client, server = ends
    heard: list[Request | None] = []
    nursery.start_soon(answer_with, server, Answer(429, b"application/json", b"{}", retry_after=3), heard)
    answer = await ask(client, request_, host="ca.test:8440", most=1000)
    assert heard == [request_]
    assert (answer.status, answer.body) == (429, b"{}")


async def test_a_caller_that_asks_nothing_is_no_request(ends: Ends, nursery: trio.Nursery) -> None:
    client, server = ends
    nursery.start_soon(client.close)
    assert await read_request(server, most=10) is None


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n6\r\n123456\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123", 400),
        (b"GET / HT", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 60 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 417),
    ],
)
async def test_what_is_no_sound_request_is_refused(ends: Ends, nursery: trio.Nursery, said: bytes, status: int) -> None:
    client, server = ends
    await client.send(said)
    nursery.start_soon(client.close)
    with pytest.raises(Unsound) as refused:
        await read_request(server, most=10)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123",
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
async def test_an_answer_that_is_half_or_too_large_is_none(ends: Ends, nursery: trio.Nursery, said: bytes) -> None:
    client, server = ends
    await server.send(said)
    nursery.start_soon(server.close)
    with pytest.raises(Unsound):
        await ask(client, Request(b"GET", b"/"), host="a", most=10)
