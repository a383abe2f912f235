"""TCP mode's relay: byte-exact in both directions, honest about every kind of end, bounded."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.ends import End, PeerEof, Side
from meshproxy.wire.tls import receive

if TYPE_CHECKING:
    from tests.wire.conftest import Tunnel, Tunnels


async def send(sock: socket.socket, data: bytes) -> None:
    waiting = memoryview(data)
    while waiting:
        try:
            waiting = waiting[sock.send(waiting) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def read_to_end(sock: socket.socket) -> bytes:
    received = bytearray()
    while data := await receive(sock, 65536):
        received += data
    return bytes(received)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def both_clean(tunnel: Tunnel) -> None:
    await tunnel.a.done.wait()
    await tunnel.b.done.wait()
    assert (tunnel.a.result().end, tunnel.b.result().end) == (End.CLEAN, End.CLEAN)


@pytest.mark.parametrize("seed", range(40))
async def test_full_duplex_transfers_are_byte_exact_and_end_cleanly(tunnels: Tunnels, seed: int) -> None:
    """Random sizes in random pieces both ways; either side may answer only after the other's end of stream."""
    rng = random.Random(seed)
    tunnel = await tunnels.make(small=rng.random() < 0.5, unix=rng.random() < 0.3)
    forth, back = (rng.randbytes(rng.choice([0, 1, 700, 16384, 65536, 300_000, 1_500_000])) for _ in "12")
    turns = rng.choice(["duplex", "a first", "b first"])
    a_ended, b_ended = trio.Event(), trio.Event()
    got: dict[str, bytes] = {}

    async def speak(sock: socket.socket, data: bytes, after: trio.Event | None) -> None:
        if after is not None:
            await after.wait()
        start = 0
        while start < len(data):
            size = rng.choice([1, 100, 5000, 70_000, 400_000])
            await send(sock, data[start : start + size])
            start += size
        sock.shutdown(socket.SHUT_WR)

    async def listen(name: str, sock: socket.socket, ended: trio.Event) -> None:
        got[name] = await read_to_end(sock)
        ended.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak, tunnel.app_a, forth, a_ended if turns == "b first" else None)
            nursery.start_soon(speak, tunnel.app_b, back, b_ended if turns == "a first" else None)
            nursery.start_soon(listen, "a", tunnel.app_a, a_ended)
            nursery.start_soon(listen, "b", tunnel.app_b, b_ended)
        await both_clean(tunnel)
    assert hashlib.sha256(got["b"]).digest() == hashlib.sha256(forth).digest()
    assert hashlib.sha256(got["a"]).digest() == hashlib.sha256(back).digest()
    assert (tunnel.a.sent_to_tls, tunnel.a.sent_to_plain) == (len(forth), len(back))
    assert (tunnel.b.sent_to_tls, tunnel.b.sent_to_plain) == (len(back), len(forth))


async def test_one_direction_may_end_long_before_the_other(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make()
    await send(tunnel.app_a, b"question")
    tunnel.app_a.shutdown(socket.SHUT_WR)
    assert await read_to_end(tunnel.app_b) == b"question"
    for _ in range(3):
        await send(tunnel.app_b, b"answer")
        assert await receive(tunnel.app_a, 100) == b"answer"
    assert not tunnel.a.done.is_set()
    tunnel.app_b.shutdown(socket.SHUT_WR)
    assert await read_to_end(tunnel.app_a) == b""
    await both_clean(tunnel)


async def test_a_bare_fin_of_the_tls_peer_is_truncation(tunnels: Tunnels) -> None:
    """What came is delivered; the end is not passed on as a clean one."""
    tunnel = await tunnels.make()
    await send(tunnel.app_a, b"half of a")
    assert await receive(tunnel.app_b, 100) == b"half of a"
    tunnel.tls_a.shutdown(socket.SHUT_WR)
    await tunnel.b.done.wait()
    ended = tunnel.b.result()
    assert (ended.end, ended.side) == (End.TRUNCATED, Side.TLS)
    assert tunnel.b.bare_fin
    with pytest.raises(BlockingIOError):
        tunnel.app_b.recv(1)  # no end of stream reached the application


async def test_lenient_listeners_pass_a_bare_fin_on_as_a_clean_end(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make(peer_eof=PeerEof.LENIENT)
    await send(tunnel.app_a, b"all of it")
    assert await receive(tunnel.app_b, 100) == b"all of it"
    tunnel.tls_a.shutdown(socket.SHUT_WR)
    assert await read_to_end(tunnel.app_b) == b""
    assert tunnel.b.bare_fin
    await send(tunnel.app_b, b"and the answer")
    tunnel.app_b.shutdown(socket.SHUT_WR)
    await tunnel.b.done.wait()
    assert tunnel.b.result().end is End.CLEAN


@pytest.mark.parametrize("side", ["a", "b"])
async def test_a_reset_of_the_application_is_told_as_the_plain_sides(tunnels: Tunnels, side: str) -> None:
    tunnel = await tunnels.make()
    await send(tunnel.app_a, b"x")
    assert await receive(tunnel.app_b, 1) == b"x"
    splice = tunnel.a if side == "a" else tunnel.b
    reset(tunnel.app_a if side == "a" else tunnel.app_b)
    await splice.done.wait()
    assert (splice.result().end, splice.result().side) == (End.RESET, Side.PLAIN)


async def test_a_reset_of_the_tls_peer_is_told_as_the_tls_sides(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make()
    tunnel.a.release()
    reset(tunnel.tls_a)
    await tunnel.b.done.wait()
    assert (tunnel.b.result().end, tunnel.b.result().side) == (End.RESET, Side.TLS)


async def test_a_byte_changed_on_the_wire_ends_the_connection_as_corrupt(tunnels: Tunnels) -> None:
    """No byte of the forged record reaches the application, and the sender hears bad_record_mac."""
    tunnel = await tunnels.make()
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    await send(tunnel.tls_a, record)
    await tunnel.b.done.wait()
    assert tunnel.b.result().end is End.CORRUPT
    assert tunnel.b.sent_to_plain == 0
    await tunnel.a.done.wait()
    assert tunnel.a.result().side is Side.TLS
    assert "bad record mac" in tunnel.a.result().detail


async def test_a_slow_reader_costs_one_bounded_remainder(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make()
    sent = 0
    with trio.move_on_after(0.3):  # far longer than filling every buffer takes
        while True:
            await send(tunnel.app_a, bytes(65536))
            sent += 65536
    assert tunnels.buffers.held <= 2 * (256 + 64) * 1024
    assert sent > tunnel.b.sent_to_plain > 0
    # It goes on where it stood as soon as the reader reads.
    received = 0
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            nonlocal received
            received = len(await read_to_end(tunnel.app_b))

        nursery.start_soon(drain)
        await send(tunnel.app_a, b"last")
        tunnel.app_a.shutdown(socket.SHUT_WR)
    assert received >= sent + 4


async def test_a_raising_callback_ends_its_own_connection_only(
    tunnels: Tunnels, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = await tunnels.make(), await tunnels.make()

    def fail(_events: int) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(type(broken.a), "_pull_plain", lambda self, events: fail(events) if self is broken.a else True)
    await send(broken.app_a, b"x")
    await broken.a.done.wait()
    with pytest.raises(ZeroDivisionError):
        broken.a.result()
    monkeypatch.undo()
    await send(sound.app_b, b"still here")
    assert await receive(sound.app_a, 100) == b"still here"


async def test_a_cancelled_owner_leaves_no_handler(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make()
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await tunnel.a.done.wait()
        finally:
            tunnel.a.release()
    tunnel.b.release()
    await trio.testing.wait_all_tasks_blocked()
    assert "watching=0 resumed=0" in repr(tunnels.engine)


async def test_descriptor_numbers_may_be_reused_at_once(tunnels: Tunnels) -> None:
    """A closed pair's numbers come back in the next pair; no event of the old one reaches it."""
    for _ in range(50):
        tunnel = await tunnels.make()
        await send(tunnel.app_a, b"for the old one")
        tunnel.a.release()
        tunnel.b.release()
        for sock in (tunnel.tls_a, tunnel.tls_b, tunnel.app_a, tunnel.app_b):
            sock.close()
        again = await tunnels.make()
        await send(again.app_a, b"new")
        with trio.fail_after(5):
            assert await receive(again.app_b, 100) == b"new"


async def test_data_and_fin_in_one_edge_are_both_seen(tunnels: Tunnels) -> None:
    for _ in range(30):
        tunnel = await tunnels.make()
        tunnel.app_a.send(b"last words")
        tunnel.app_a.shutdown(socket.SHUT_WR)
        tunnel.app_b.shutdown(socket.SHUT_WR)
        with trio.fail_after(5):
            assert await read_to_end(tunnel.app_b) == b"last words"
            await both_clean(tunnel)


async def test_a_busy_stream_does_not_starve_a_quiet_one(tunnels: Tunnels) -> None:
    busy, quiet = await tunnels.make(), await tunnels.make()

    async def flood() -> None:
        while True:
            await send(busy.app_a, bytes(1 << 20))

    async def swallow() -> None:
        while await receive(busy.app_b, 1 << 20):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        nursery.start_soon(swallow)
        with trio.fail_after(5):
            for turn in range(20):  # each of them waits behind up to a MiB of the other's
                await send(quiet.app_a, turn.to_bytes(4, "big"))
                assert await receive(quiet.app_b, 4) == turn.to_bytes(4, "big")
        nursery.cancel_scope.cancel()


async def test_the_repr_tells_the_state_of_both_sides(tunnels: Tunnels) -> None:
    tunnel = await tunnels.make()
    tunnel.app_a.shutdown(socket.SHUT_WR)
    await read_to_end(tunnel.app_b)
    assert "plain[read-closed waiting=0] tls[write-closed waiting=0] end=None" in repr(tunnel.a)


async def test_a_half_closed_connection_costs_nothing_while_it_waits(tunnels: Tunnels) -> None:
    """A socket at its end is readable for ever; an engine that reports levels must not turn in circles over it."""
    tunnel = await tunnels.make()
    tunnel.app_a.shutdown(socket.SHUT_WR)
    assert await read_to_end(tunnel.app_b) == b""
    with trio.fail_after(5):
        await trio.testing.wait_all_tasks_blocked(0.01)
    await send(tunnel.app_b, b"the answer")
    assert await receive(tunnel.app_a, 100) == b"the answer"
    tunnel.app_b.shutdown(socket.SHUT_WR)
    await both_clean(tunnel)
