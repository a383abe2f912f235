"""A channel's promises: byte-exact, never waiting, and honest about every kind of end."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.wire.buffers import SMALLEST
from meshproxy.wire.channel import ChannelBroken, PlainChannel, TlsChannel
from meshproxy.wire.readiness import HANGUP, READ
from meshproxy.wire.tls import MOST_UNSENT_CONTROL, TlsConnection
from tests.shaking import shake
from tests.wire.conftest import handshake_both

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.readiness import Readiness
    from tests.wire.conftest import Contexts, Wires


class Maker:
    """Makes channels that are watched, and the peers at their far ends."""

    def __init__(self, engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires) -> None:
        self.engine, self.buffers, self.contexts, self.wires = engine, buffers, contexts, wires
        self.made: list[Channel] = []

    def plain(self, *, small: bool = False) -> tuple[PlainChannel, socket.socket]:
        near, far = self.wires.tcp(small=small)
        channel = PlainChannel(near, self.engine, self.buffers)
        self._watch(channel)
        return channel, far

    async def tls(self, *, small: bool = False) -> tuple[TlsChannel, TlsConnection]:
        near, far = self.wires.tcp(small=small)
        server = TlsConnection(near, self.contexts.server, server_side=True)
        client = TlsConnection(far, self.contexts.client, server_side=False)
        await handshake_both(client, server)
        channel = TlsChannel(server, self.engine, self.buffers)
        self._watch(channel)
        return channel, client

    def _watch(self, channel: Channel) -> None:
        self.engine.watch(channel.sock, lambda _events: True)
        self.made.append(channel)


@pytest.fixture
async def maker(engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires) -> AsyncIterator[Maker]:
    made = Maker(engine, buffers, contexts, wires)
    yield made
    for channel in made.made:
        engine.forget(channel.sock)
        channel.release()
    assert buffers.held == 0


def heard(channel: Channel) -> bytes:
    """What the channel receives once something has arrived: loopback is not done with its work when send returns."""
    select.select([channel.sock], [], [], 5)
    return channel.receive()


def read_all(sock: socket.socket) -> bytes:
    """What a non-blocking socket has, waiting a little for the first."""
    read = b""
    select.select([sock], [], [], 0.05)
    with suppress(BlockingIOError):
        while got := sock.recv(1 << 20):
            read += got
    return read


def clear(tls: TlsConnection, raw: bytes) -> bytes:
    """Decrypt at the peer."""
    room = memoryview(bytearray(1 << 20))
    tls.incoming.write(raw)
    return bytes(room[: tls.read_into(room)])


def flush_until_sent(channel: Channel, far: socket.socket) -> bytes:
    """The peer reads until nothing waits."""
    read = b""
    while channel.waiting:
        read += read_all(far)
        channel.flush()
    return read + read_all(far)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_what_the_socket_does_not_take_is_held_in_order(maker: Maker) -> None:
    channel, far = maker.plain(small=True)
    data = bytes(range(256)) * 2000
    channel.send(data)
    assert 0 < channel.waiting == maker.buffers.held < len(data)
    channel.send(b"the end")  # a reply behind what waits
    channel.finish()
    assert flush_until_sent(channel, far) == data + b"the end"
    assert maker.buffers.held == 0
    assert far.recv(1) == b""


@pytest.mark.parametrize("size", [1, 10_000, 16 << 10, 66_000, 256 << 10])
async def test_what_waits_keeps_nothing_alive_that_was_sent(maker: Maker, size: int) -> None:
    plain, _ = maker.plain(small=True)
    tls, _ = await maker.tls(small=True)
    for channel in (plain, tls):
        while not channel.waiting:
            channel.send(bytes(size))
        assert channel._held is not None
        assert len(bytes(channel._held.obj)) == channel.waiting


async def test_somebody_who_takes_nothing_is_read_for_in_the_smallest_pieces(maker: Maker) -> None:
    source, far = maker.plain()
    onward, _ = maker.plain(small=True)
    far.setblocking(True)
    for _ in range(10):
        far.sendall(bytes(SMALLEST))
        select.select([source.sock], [], [], 5)
        assert len(source.look(onward.sock)) <= SMALLEST


async def test_tls_records_that_wait_stay_in_order_and_the_end_comes_last(maker: Maker) -> None:
    channel, peer = await maker.tls(small=True)
    data = bytes(range(256)) * 2000
    channel.send(data)
    assert channel.waiting
    channel.send(b"the end")
    channel.finish()
    channel.finish()
    assert clear(peer, flush_until_sent(channel, peer.sock)) == data + b"the end"
    assert peer.peer_has_ended


async def test_what_is_looked_at_is_what_would_have_been_received(maker: Maker) -> None:
    plain, far = maker.plain()
    tls, peer = await maker.tls()
    data = bytes(range(256)) * 2000
    for channel, sock in ((plain, far), (tls, peer.sock)):
        wire = memoryview(data)
        if channel is tls:
            peer.session.write(data)
            wire = memoryview(peer.outgoing.read())
        seen, begun = b"", 0
        while len(seen) < len(data):
            with suppress(BlockingIOError):
                begun += sock.send(wire[begun:])
            select.select([channel.sock], [], [], 5)
            seen += bytes(channel.look())
        assert seen == data
        assert (bytes(channel.look()), channel.drained, channel.ended) == (b"", True, False)


async def test_who_looks_sees_the_end_and_its_kind(maker: Maker) -> None:
    plain, far = maker.plain()
    far.shutdown(socket.SHUT_WR)
    select.select([plain.sock], [], [], 5)
    assert (bytes(plain.look()), plain.ended, plain.ended_cleanly) == (b"", True, True)
    tls, peer = await maker.tls()
    peer.sock.shutdown(socket.SHUT_WR)
    select.select([tls.sock], [], [], 5)
    assert (bytes(tls.look()), tls.ended, tls.ended_cleanly) == (b"", True, False)
    tls, peer = await maker.tls()
    peer.session.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        peer.session.unwrap()
    peer.sock.send(peer.outgoing.read())
    select.select([tls.sock], [], [], 5)
    assert (bytes(tls.look()), tls.ended, tls.ended_cleanly) == (b"last", True, True)
    plain, far = maker.plain()
    reset(far)
    with pytest.raises(ChannelBroken):
        plain.look()


async def test_bytes_that_came_with_the_handshake_are_looked_at_first(maker: Maker) -> None:
    channel, peer = await maker.tls()
    peer.session.write(b"early")
    channel.tls.incoming.write(peer.outgoing.read())
    assert bytes(TlsChannel(channel.tls, maker.engine, maker.buffers).look()) == b"early"


@pytest.mark.parametrize("tls", [False, True])
async def test_what_is_held_of_a_look_does_not_change_with_the_next(maker: Maker, *, tls: bool) -> None:
    """The scratch memory is everybody's: a remainder is a copy."""
    peer: TlsConnection | None = None
    channel: Channel
    if tls:
        channel, peer = await maker.tls(small=True)
        sock = peer.sock
    else:
        channel, sock = maker.plain(small=True)
    data = bytes(range(256)) * 1000
    maker.buffers.clear[: len(data)] = data
    channel.send(maker.buffers.clear[: len(data)])
    assert channel.waiting
    maker.buffers.clear[: len(data)] = bytes(len(data))
    sent = flush_until_sent(channel, sock)
    assert (sent if peer is None else clear(peer, sent)) == data


@pytest.mark.parametrize("count", [2, 3, 128, 129, 5000])
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_what_lies_in_several_places_is_sent_in_order(
    maker: Maker, *, tls: bool, small: bool, count: int
) -> None:
    peer: TlsConnection | None = None
    channel: Channel
    if tls:
        channel, peer = await maker.tls(small=small)
        sock = peer.sock
    else:
        channel, sock = maker.plain(small=small)
    data = bytes(range(256)) * 1200
    size = len(data) // count + 1
    parts = [memoryview(data)[at : at + size] for at in range(0, len(data), size)]
    channel.send_all(parts)
    channel.send_all([b"a reply", memoryview(b" behind what waits")])
    channel.send_all([b"."])
    sent = flush_until_sent(channel, sock)
    assert (sent if peer is None else clear(peer, sent)) == data + b"a reply behind what waits."


async def test_who_is_gone_is_noticed_however_much_is_said(maker: Maker) -> None:
    plain, far = maker.plain()
    tls, peer = await maker.tls()
    for channel, sock in ((plain, far), (tls, peer.sock)):
        reset(sock)
        select.select([channel.sock], [], [], 5)
        with pytest.raises(ChannelBroken):
            channel.send_all([bytes(100_000), bytes(100_000)])


async def test_nothing_to_send_is_no_record(maker: Maker) -> None:
    plain, far = maker.plain()
    tls, peer = await maker.tls()
    for channel, sock in ((plain, far), (tls, peer.sock)):
        channel.send_all([])
        channel.send_all([b"", b""])
        assert read_all(sock) == b""
    plain.send(b"")
    assert read_all(far) == b""


async def test_drained_is_told_until_the_engine_hints_otherwise(maker: Maker) -> None:
    channel, far = maker.plain()
    assert (channel.receive(), channel.drained) == (b"", True)
    far.send(b"hello")
    channel.hint(READ)
    assert not channel.drained
    assert (heard(channel), channel.drained) == (b"hello", True)


async def test_after_a_hangup_a_short_read_proves_nothing(maker: Maker) -> None:
    channel, far = maker.plain()
    far.send(b"last words")
    select.select([channel.sock], [], [], 5)
    far.shutdown(socket.SHUT_WR)
    channel.hint(READ | HANGUP)
    assert (heard(channel), channel.drained, channel.ended) == (b"last words", False, False)
    assert (heard(channel), channel.drained, channel.ended, channel.ended_cleanly) == (b"", True, True, True)


async def test_a_bare_fin_of_a_tls_peer_is_an_end_but_not_a_clean_one(maker: Maker) -> None:
    channel, peer = await maker.tls()
    peer.sock.shutdown(socket.SHUT_WR)
    assert (heard(channel), channel.ended, channel.ended_cleanly) == (b"", True, False)


async def test_close_notify_behind_data_is_a_clean_end(maker: Maker) -> None:
    channel, peer = await maker.tls()
    peer.session.write(b"last words")
    with suppress(ssl.SSLWantReadError):
        peer.session.unwrap()
    peer.sock.send(peer.outgoing.read())
    peer.sock.shutdown(socket.SHUT_WR)
    assert (heard(channel), channel.ended_cleanly) == (b"last words", True)
    assert (heard(channel), channel.ended, channel.ended_cleanly) == (b"", True, True)


async def test_bytes_that_came_with_the_last_flight_are_not_forgotten(
    maker: Maker, contexts: Contexts, wires: Wires
) -> None:
    """They are in the BIO, where no readiness event tells of them."""
    near, far = wires.tcp()
    server = TlsConnection(near, contexts.server, server_side=True)
    client = TlsConnection(far, contexts.client, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, server)
        while True:
            try:
                client.session.do_handshake()
                break
            except ssl.SSLWantReadError:
                if flight := client.outgoing.read():
                    far.send(flight)
                await trio.lowlevel.wait_readable(far)
                client.incoming.write(far.recv(65536))
        client.session.write(b"early")
        far.send(client.outgoing.read())
    channel = TlsChannel(server, maker.engine, maker.buffers)
    assert channel.receive() == b"early"


async def test_a_forged_record_breaks_the_channel_and_is_answered_by_an_alert(maker: Maker) -> None:
    channel, peer = await maker.tls()
    peer.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ChannelBroken, match="do not authenticate"):
        heard(channel)
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
        clear(peer, read_all(peer.sock))


async def test_an_alert_of_the_peer_says_so(maker: Maker) -> None:
    channel, peer = await maker.tls()
    channel.tls.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with suppress(ssl.SSLError):
        clear(peer, read_all(peer.sock))
    peer.flush_alert()
    with pytest.raises(ChannelBroken) as broken:
        heard(channel)
    assert broken.value.refused


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_reset_breaks_reading_and_writing(maker: Maker, kind: str) -> None:
    channel: Channel
    if kind == "plain":
        channel, far = maker.plain()
    else:
        channel, peer = await maker.tls()
        far = peer.sock
    reset(far)
    with pytest.raises(ChannelBroken):
        heard(channel)
    with pytest.raises(ChannelBroken):
        channel.send(b"x")
    channel.finish()  # not an error: it was going away anyhow


async def test_last_words_are_heard_although_their_control_message_cannot_be_answered(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyUpdate asks for an answer; that the peer has left without it does not undo what it said."""
    channel, peer = await maker.tls()
    peer.session.write(b"last words")
    peer.sock.send(peer.outgoing.read())
    channel.tls.outgoing.write(b"the answer to a KeyUpdate")

    def gone(_data: bytes) -> None:
        raise ChannelBroken("connection lost")

    monkeypatch.setattr(channel, "transmit", gone)
    assert heard(channel) == b"last words"


async def test_a_peer_that_floods_control_messages_and_reads_none_is_cut(maker: Maker) -> None:
    channel, peer = await maker.tls(small=True)
    channel.send(bytes(1 << 20))
    assert channel.waiting
    channel.tls.outgoing.write(bytes(MOST_UNSENT_CONTROL + 1))
    peer.session.write(b"x")
    peer.sock.send(peer.outgoing.read())
    with pytest.raises(ChannelBroken, match="floods"):
        heard(channel)


async def test_an_end_leaves_although_the_peer_still_talks(maker: Maker) -> None:
    """Data behind our own end is an error to OpenSSL, and must not keep our end from leaving."""
    channel, peer = await maker.tls()
    peer.session.write(b"still talking")
    channel.tls.incoming.write(peer.outgoing.read())
    channel.finish()
    assert clear(peer, read_all(peer.sock)) == b""
    assert peer.peer_has_ended


async def test_what_waits_is_handed_over_once(maker: Maker) -> None:
    channel, far = maker.plain(small=True)
    channel.send(bytes(1 << 20))
    waiting = channel.waiting
    assert len(channel.release()) == waiting
    assert (channel.waiting, channel.release()) == (0, b"")
    assert len(read_all(far)) <= (1 << 20) - waiting
