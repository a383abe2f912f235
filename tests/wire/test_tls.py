"""Handshakes over memory BIOs: in parts, with early data behind them, and with their alerts sent."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import ssl
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.wire.buffers import ONE_RECORD, Buffers
from meshproxy.wire.closing import reset
from meshproxy.wire.ends import PeerEof
from meshproxy.wire.splice import Splice
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import PORTION, RECORD, TlsConnection, _inner, _last_of_verified_chain, receive
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault
from meshproxy.wire.turnstile import Step, Turnstile
from tests.shaking import shake
from tests.wire.conftest import handshake_both

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from meshproxy.wire.readiness import Readiness
    from tests.wire.conftest import Contexts, Wires


class Dribbling(socket.socket):
    """A socket whose kernel takes seven bytes at a time, and every second time none."""

    full = True

    @classmethod
    def of(cls, sock: socket.socket) -> Dribbling:
        made = cls(fileno=sock.detach())
        made.setblocking(False)
        return made

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        self.full = not self.full
        if self.full:
            raise BlockingIOError
        return super().send(memoryview(data)[:7], flags)


async def both(client: TlsConnection, server: TlsConnection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, client)
        nursery.start_soon(shake, server)


async def test_both_sides_know_each_others_certificate_after_the_handshake(contexts: Contexts, wires: Wires) -> None:
    near, far = wires.tcp()
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    await both(client, server)
    assert client.peer_certificate
    assert server.peer_certificate
    assert client.peer_certificate != server.peer_certificate
    assert "TLSv1.3" in repr(client)


async def test_flights_arrive_in_parts_over_the_tiniest_of_buffers(contexts: Contexts, wires: Wires) -> None:
    near, far = map(Dribbling.of, wires.tcp())
    with near, far:
        client = TlsConnection(near, contexts.client, server_side=False)
        server = TlsConnection(far, contexts.server, server_side=True)
        with trio.fail_after(5):
            await both(client, server)
        assert server.peer_certificate


async def test_the_server_name_is_sent_when_there_is_one(contexts: Contexts, wires: Wires) -> None:
    heard: list[str | None] = []

    def hear(_sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        heard.append(name)

    contexts.server.sni_callback = hear
    try:
        for name in ("ledger.internal", None):
            near, far = wires.tcp()
            await both(
                TlsConnection(near, contexts.client, server_side=False, server_name=name),
                TlsConnection(far, contexts.server, server_side=True),
            )
    finally:
        contexts.server.sni_callback = None
    assert heard == ["ledger.internal", None]


async def test_bytes_that_came_with_the_last_flight_are_relayed(
    engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires
) -> None:
    """They wait in the BIO, where no readiness event will ever tell of them."""
    near, far = wires.tcp()
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, server)

        async def last_flight_with_a_request() -> None:

            while True:
                try:
                    client.session.do_handshake()
                except ssl.SSLWantReadError:
                    near.send(client.outgoing.read())
                    client.incoming.write(await receive(near, 16384))
                else:
                    break
            client.session.write(b"early")
            near.send(client.outgoing.read())

        nursery.start_soon(last_flight_with_a_request)
    app, plain = wires.unix()
    splice = Splice(engine, buffers, plain, server, PeerEof.STRICT)
    splice.start()
    with trio.fail_after(5):
        assert await receive(app, 100) == b"early"
    splice.release()


@pytest.mark.parametrize("said", [b"", b"first words", None], ids=["nothing yet", "words", "goodbye"])
async def test_a_clients_last_flight_leaves_with_the_first_words_or_at_once(
    said: bytes | None, engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires
) -> None:
    near, far = wires.tcp()
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    app, plain = wires.unix()
    if said is None:
        app.shutdown(socket.SHUT_WR)
    else:
        app.send(said)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.handshake, Sweeper(), within=math.inf))
        server.incoming.write(await receive(far, 65536))
        with pytest.raises(ssl.SSLWantReadError):
            server.session.do_handshake()
        far.send(server.outgoing.read())
    assert client.outgoing.pending
    with pytest.raises(BlockingIOError):
        far.recv(1)
    splice = Splice(engine, buffers, plain, client, PeerEof.STRICT)
    splice.start()
    with trio.fail_after(5):
        server.incoming.write(await receive(far, 65536))
    server.session.do_handshake()
    if said:
        assert server.session.read(100) == said
    elif said is None:
        assert server.session.read(100) == b""  # close_notify
    else:
        app.send(b"later")
        with trio.fail_after(5):
            server.incoming.write(await receive(far, 65536))
        assert server.session.read(100) == b"later"
    splice.release()


async def test_who_is_gone_when_the_last_flight_leaves_ends_the_splice(
    engine: Readiness, buffers: Buffers, contexts: Contexts, wires: Wires
) -> None:
    near, far = wires.tcp()
    reset(far)
    await trio.lowlevel.wait_readable(near)
    client = TlsConnection(near, contexts.client, server_side=False)
    client.outgoing.write(b"a last flight")
    _app, plain = wires.unix()
    plain.shutdown(socket.SHUT_RD)  # the application has said goodbye already: close_notify would go with the flight
    splice = Splice(engine, buffers, plain, client, PeerEof.STRICT)
    splice.start()
    assert splice.done.is_set()
    assert "watching=0" in repr(engine)


async def test_the_alert_of_a_failed_handshake_reaches_the_peer(contexts: Contexts, wires: Wires) -> None:
    near, far = wires.tcp()
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    client = TlsConnection(near, nobody, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)

    async def be_refused() -> None:
        with pytest.raises(HandshakeError) as caught:
            await shake(server)
        assert caught.value.fault is HandshakeFault.NO_CERTIFICATE
        far.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_refused)
        await shake(client)  # in TLS 1.3 it succeeds: the server has not judged yet
        client.incoming.write(await receive(near, 16384))
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            client.session.read(1)


async def test_an_alert_to_a_peer_that_is_gone_does_not_raise(contexts: Contexts, wires: Wires) -> None:
    near, far = wires.tcp()
    far.close()
    connection = TlsConnection(near, contexts.server, server_side=True)
    near.shutdown(socket.SHUT_WR)
    connection.outgoing.write(b"x")
    connection.flush_alert()


async def test_a_cancelled_handshake_leaves_the_socket_to_its_owner(contexts: Contexts, wires: Wires) -> None:
    near, _far = wires.tcp()
    with trio.move_on_after(0.01) as scope:
        await shake(TlsConnection(near, contexts.server, server_side=True))
    assert scope.cancelled_caught
    assert near.fileno() >= 0


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02"], ids=["nothing", "half a header"])
async def test_a_handshake_takes_no_longer_than_told(
    says: bytes, contexts: Contexts, wires: Wires, nursery: trio.Nursery, settling_clock: trio.testing.MockClock
) -> None:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    near, far = wires.tcp()
    far.send(says)
    started = trio.current_time()
    with pytest.raises(HandshakeError, match="no handshake within 3 s") as caught:
        await TlsConnection(near, contexts.server, server_side=True).handshake(sweeper, within=3)
    assert caught.value.fault is HandshakeFault.TIMEOUT
    assert 3 <= trio.current_time() - started <= 3.5
    assert repr(sweeper) == "<Sweeper items=0>"
    assert near.fileno() >= 0  # the owner's to close


async def test_a_limit_that_passes_while_nobody_waits_is_met_at_the_next_wait(
    contexts: Contexts,
    wires: Wires,
    nursery: trio.Nursery,
    settling_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sweeper can only wake who waits: it does so at every tick, or a peer could slip through by good timing."""
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    near, _far = wires.tcp()
    started = trio.current_time()

    async def busy(_self: TlsConnection) -> None:
        await trio.sleep(10)

    monkeypatch.setattr(TlsConnection, "flush", busy)
    with pytest.raises(HandshakeError, match="no handshake within 3 s"):
        await TlsConnection(near, contexts.client, server_side=False).handshake(sweeper, within=3)
    assert 10 <= trio.current_time() - started <= 10.5


async def test_receive_waits_for_the_first_byte_and_tells_the_end(wires: Wires) -> None:
    near, far = wires.unix()
    got: list[bytes] = []

    async def take() -> None:
        got.append(await receive(near, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        far.send(b"abcdef")
    assert got == [b"abc"]
    assert await receive(near, 100) == b"def"
    far.close()
    assert await receive(near, 100) == b""


async def test_a_handshake_takes_no_longer_for_waiting_at_the_turnstile_when_its_time_runs_out(
    contexts: Contexts, wires: Wires
) -> None:
    sweeper = Sweeper()

    class Crowded(Turnstile):
        """Where somebody waits until his time is up, which is told while he waits for no socket."""

        def __init__(self) -> None:
            pass

        async def wait_for(self, step: Step, *, newcomer: bool) -> None:  # type: ignore[override]  # noqa: ARG002
            step.take()
            for limit in list(sweeper._items):
                limit.expire(math.inf)

    near, _ = wires.tcp()
    with trio.fail_after(5), pytest.raises(HandshakeError, match="no handshake within 3 s"):
        await TlsConnection(near, contexts.client, server_side=False).handshake(sweeper, within=3, turnstile=Crowded())


# What a peer says after the handshake, and where the wire may cut it: `read_into` asks the BIO whether there is more,
# so every portioning must give the same bytes and the same end.
_SAYINGS = st.lists(st.integers(1, 40_000), max_size=4)
_CUTS = st.lists(st.floats(0, 1), max_size=12)


@given(sizes=_SAYINGS, cuts=_CUTS, ends=st.booleans(), we_ended=st.booleans())
def test_every_byte_and_the_end_are_read_however_the_wire_portions_them(
    contexts: Contexts, *, sizes: list[int], cuts: list[float], ends: bool, we_ended: bool
) -> None:
    near, far = _in_memory(contexts)
    if we_ended:
        with pytest.raises(ssl.SSLWantReadError):
            near.session.unwrap()
    said = b"".join(bytes([number + 1]) * size for number, size in enumerate(sizes))
    for number, size in enumerate(sizes):
        far.session.write(bytes([number + 1]) * size)
    if ends:
        with pytest.raises(ssl.SSLWantReadError):
            far.session.unwrap()
    wire = far.outgoing.read()
    room, heard = memoryview(bytearray(len(said) + 33_000)), bytearray()
    borders = [0, *sorted(int(cut * len(wire)) for cut in cuts), len(wire)]
    for start, stop in pairwise(borders):
        assert not near.peer_has_ended or start == stop
        if start < stop:
            near.incoming.write(wire[start:stop])
        heard += room[: near.read_into(room)]
    assert heard == said
    assert near.peer_has_ended is ends


# Long reads are decrypted where they stand, in portions: records of any size, over borders anywhere.
_RECORDS = st.lists(st.integers(1, 17_000) | st.just(16_384) | st.integers(1, 40), max_size=60)
_READS = st.lists(st.integers(1, 256 * 1024) | st.just(256 * 1024), max_size=6)


@given(sizes=_RECORDS, reads=_READS, ends=st.booleans())
def test_what_is_decrypted_where_it_stands_never_reaches_what_is_still_to_be_fed(
    contexts: Contexts, *, sizes: list[int], reads: list[int], ends: bool
) -> None:
    near, far = _in_memory(contexts)
    said = random.Random(len(sizes)).randbytes(sum(sizes))
    begun = 0
    for size in sizes:
        far.session.write(memoryview(said)[begun : begun + size])
        begun += size
    if ends:
        with pytest.raises(ssl.SSLWantReadError):
            far.session.unwrap()
    wire, heard = memoryview(far.outgoing.read()), bytearray()
    for most in (*reads, *[256 * 1024] * (1 + len(wire) // (256 * 1024))):
        read, wire = wire[:most], wire[most:]
        SHARED.raw[: len(read)] = read
        count = near.feed(SHARED.raw[: len(read)], SHARED.clear)
        heard += SHARED.clear[: near.read_into(SHARED.clear, count)]
    assert heard == said
    assert near.peer_has_ended is ends


SHARED = Buffers()


def _in_memory(contexts: Contexts) -> tuple[TlsConnection, TlsConnection]:
    """Two ends whose handshake is over, with nothing but memory between them."""
    with socket.socket() as unused:
        near = TlsConnection(unused, contexts.server, server_side=True)
        far = TlsConnection(unused, contexts.client, server_side=False)
    for _ in range(2):
        for here, there in ((far, near), (near, far)):
            with contextlib.suppress(ssl.SSLWantReadError):
                here.session.do_handshake()
            there.incoming.write(here.outgoing.read())
    assert near.session.version() == "TLSv1.3"
    return near, far


class Certificate:
    """As `_ssl` holds one."""

    def public_bytes(self, encoding: int) -> bytes:
        return {2: b"DER"}[encoding]


class Session:
    """What newer Pythons offer: bytes, in 3.13.0 certificates still, and nothing for a session that was resumed."""

    def __init__(self, chain: list[bytes | Certificate]) -> None:
        self._chain = chain

    def get_verified_chain(self) -> list[bytes | Certificate]:
        return self._chain


@pytest.mark.parametrize(
    ("session", "anchor"),
    [
        (Session([b"leaf", b"root"]), b"root"),
        (Session([Certificate(), Certificate()]), b"DER"),
        (Session([]), None),
        (object(), None),
    ],
)
def test_the_anchor_is_had_from_whoever_knows_the_verified_chain(session: object, anchor: bytes | None) -> None:
    assert _last_of_verified_chain(session) == anchor  # type: ignore[arg-type]


async def test_before_a_handshake_there_is_no_anchor_and_afterwards_it_is_a_root(
    contexts: Contexts, wires: Wires
) -> None:
    near, far = wires.tcp()
    client = TlsConnection(near, contexts.client, server_side=False)
    server = TlsConnection(far, contexts.server, server_side=True)
    assert client.anchor() is None
    await handshake_both(client, server)
    roots = contexts.client.get_ca_certs(binary_form=True)
    assert client.anchor() in roots
    assert server.anchor() in roots


def test_messages_take_the_short_way_where_this_python_has_one() -> None:
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="far")
    assert _inner(session) is getattr(session, "_sslobj")  # noqa: B009 - private, and typeshed knows nothing of it
    plain: Any = object()
    assert _inner(plain) is plain  # a Python whose `SSLObject` does the work itself


async def test_only_what_is_long_is_encrypted_in_long_portions(contexts: Contexts, wires: Wires) -> None:
    near, far = wires.tcp()
    server = TlsConnection(near, contexts.server, server_side=True)
    await both(TlsConnection(far, contexts.client, server_side=False), server)
    for size, longest in ((1, 1), (RECORD, RECORD), (PORTION + 1000, RECORD), (4 * PORTION, PORTION)):
        parts = server.encrypt(memoryview(bytes(size)))
        assert longest < max(map(len, parts)) <= longest + ONE_RECORD - (16 << 10)
