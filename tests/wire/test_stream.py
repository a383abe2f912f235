"""A TLS connection in a task: all that was said arrives, a proper end is told from a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.tls import TlsConnection
from tests.wire.conftest import handshake_both

if TYPE_CHECKING:
    from tests.wire.conftest import Contexts, Wires


async def pair(contexts: Contexts, wires: Wires, *, small: bool = False) -> tuple[TlsStream, TlsStream]:
    near, far = wires.tcp(small=small)
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    await handshake_both(client, server)
    return TlsStream(client), TlsStream(server)


async def read_all(stream: TlsStream) -> bytes:
    content = b""
    while received := await stream.receive():
        content += received
    return content


async def test_a_message_larger_than_every_buffer_arrives_whole_and_ends_properly(
    contexts: Contexts, wires: Wires, nursery: trio.Nursery
) -> None:
    client, server = await pair(contexts, wires, small=True)
    message = bytes(range(256)) * 2048

    async def say() -> None:
        await client.send(message)
        await client.close()

    nursery.start_soon(say)
    assert await read_all(server) == message
    await server.close()


async def test_a_connection_cut_off_is_not_an_end(contexts: Contexts, wires: Wires) -> None:
    client, server = await pair(contexts, wires)
    await client.send(b"half a ")
    client._tls.sock.shutdown(1)  # FIN without close_notify
    assert await server.receive() == b"half a "
    with pytest.raises(StreamBroken, match="without a word"):
        await server.receive()
    server.abort()
    client.abort()


async def test_bytes_that_do_not_authenticate_break_the_stream_and_are_told_with_an_alert(
    contexts: Contexts, wires: Wires
) -> None:
    client, server = await pair(contexts, wires)
    client._tls.sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    with pytest.raises(StreamBroken, match=r"bad record mac|decryption failed"):
        await server.receive()
    with pytest.raises(StreamBroken, match="alert"):
        await client.receive()
    server.abort()
    client.abort()


async def test_nobody_can_send_into_a_reset_connection(contexts: Contexts, wires: Wires) -> None:
    client, server = await pair(contexts, wires)
    server.abort()

    async def send_for_ever() -> None:
        while True:
            await client.send(b"x" * 65536)

    with trio.fail_after(5), pytest.raises(StreamBroken):
        await send_for_ever()
    client.abort()
