"""TLS over two memory BIOs on one non-blocking socket.

`ssl.SSLSocket` needs two system calls per record and says "no more" by an exception; with BIOs one `recv` feeds as many
records as came, and we decide when an alert leaves. What the BIO way asks for in return:

* A failed handshake has an alert in the outgoing BIO; it is flushed, or the peer sees a bare EOF and nobody knows why.
* Handshake flights may be sent in parts.
* Application bytes that came with the last flight are in the incoming BIO, not in the socket: look there first.

The caller owns the socket and closes it.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final, Protocol, cast

import trio

from meshproxy.wire.buffers import ONE_RECORD
from meshproxy.wire.fiber import in_task, interruption, readable
from meshproxy.wire.sweep import TICK
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault, classify
from meshproxy.wire.turnstile import Step

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from meshproxy.limits.waiting_room import Place
    from meshproxy.wire.sweep import Sweeper
    from meshproxy.wire.turnstile import Turnstile

_FLIGHT = 16 * 1024
_LONGEST_RECORD: Final = 1 << 14  # bytes behind the header of one that is not encrypted
_HANDSHAKE: Final = 22  # the type of a record (RFC 8446 section 5.1)
_RECORD_HEADER: Final = 5  # type, version, and the length in the last two bytes

# What was read is fed to the session in such portions. OpenSSL copies each byte three times on its way, and does so in
# the processor's cache if a portion fits in there: a whole read of 256 KiB takes a seventh more time.
PORTION = 64 * 1024

# What is to be said is encrypted in portions of a record, unless it is long, which it is only for who takes much (see
# `taken`). A BIO keeps the room of the most it ever held, and a third on top: after a portion as above that is 87 KiB
# for as long as the connection lasts.
RECORD = 16 * 1024
_LONG = 2 * PORTION
_WHOLE_RECORD = 5 + ONE_RECORD  # with its header

# Answers to KeyUpdate pile up in the BIO while the peer does not read; beyond this it does so on purpose.
MOST_UNSENT_CONTROL = 64 * 1024

# Records that say nothing to the application (KeyUpdate, session tickets, empty ones) cost us a derivation of keys
# each, and no deadline bounds them: more bytes than this without one of the application's is done on purpose. A record
# that is still on its way is a fourth of it.
MOST_FRUITLESS = 64 * 1024

# What a peer may say in a handshake. Ours is 3 KiB; a chain of large keys is 10, one of post-quantum signatures 20.
# OpenSSL takes 100 KiB of certificates alone, and keeps them, parsed, as long as the connection lives.
MOST_IN_HANDSHAKE = 64 * 1024


class TlsConnection:
    """One TLS connection; `session` and the BIOs are the splice's to drive once `handshake` has returned."""

    __slots__ = ("_read", "_said", "incoming", "outgoing", "peer_has_ended", "session", "sock", "waited", "write")

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        """Take a connected, non-blocking socket; `server_name` is the SNI sent by a client."""
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.peer_has_ended = False  # by close_notify
        self._said = 0  # by the peer, in the handshake
        self.waited = 0.0  # seconds of the handshake in which others had their turn
        self.session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_name
        )
        # The very methods that those of `SSLObject` call: each message spares two calls.
        inner = _inner(self.session)
        self._read = inner.read
        self.write = inner.write

    def __repr__(self) -> str:
        return f"<TlsConnection {self.session.version()} fd={self.sock.fileno()}>"

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's leaf as DER, once the handshake is over; None if it sent none."""
        return self.session.getpeercert(binary_form=True)

    def anchor(self) -> bytes | None:
        """The certificate (DER) at which OpenSSL ended the peer's chain, once the handshake is over."""
        return _last_of_verified_chain(self.session)

    async def handshake(
        self, sweeper: Sweeper, *, within: float, turnstile: Turnstile | None = None, place: Place | None = None
    ) -> None:
        """Carry out the handshake, for at most `within` seconds (half a second late at most: the sweeper's clock).

        A client's last flight is left in `outgoing`: whoever goes on sends it, with the first bytes if there are any;
        who does not like the server's certificate never shows it ours. Its arithmetic is done in the order of the
        `turnstile`; a peer who may lose its `place` is let go when that happens. Raises HandshakeError naming the
        fault; the TLS alert has left by then, if the peer still listens.
        """
        interrupt = interruption(self.sock)
        if place is not None:
            place.on_lost = interrupt
        limit = _Limit(interrupt, sweeper.now + within + TICK)
        sweeper.add(limit)
        try:
            await self._shake_hands(limit, turnstile, place)
        except ssl.SSLError as error:
            self.flush_alert()
            raise classify(error) from error
        except OSError as error:
            raise HandshakeError(HandshakeFault.RESET, error.strerror or "connection lost") from error
        except trio.ClosedResourceError:  # the limit's word for "too late", and that of a place that was lost
            if place is not None and place.lost:
                raise _crowded_out() from None
            raise HandshakeError(HandshakeFault.TIMEOUT, f"no handshake within {within:g} s") from None
        finally:
            sweeper.discard(limit)

    async def _shake_hands(self, limit: _Limit, turnstile: Turnstile | None, place: Place | None) -> None:
        newcomer = self.session.server_side
        if newcomer:
            await self._hear_hello(place)  # the client speaks first, and mostly has
        while True:
            step = Step(self.session)
            if turnstile is None:
                step.take()
            else:
                await turnstile.wait_for(step, newcomer=newcomer)
                newcomer = False
            self.waited += step.waited
            if step.is_last():
                if self.session.server_side:
                    await self.flush()
                return
            if place is not None:
                place.owes(answered=self.outgoing.pending > 0)
            await self.flush()
            if limit.has_passed:  # while it was our turn, when nobody waits for the socket
                raise trio.ClosedResourceError
            await readable(self.sock)  # the answer to a flight is not there at once
            await self._feed(place)

    def feed(self, raw: memoryview, clear: memoryview) -> int:
        """Feed what was read, and decrypt of it into `clear`; returns the count, from which `read_into` is to go on.

        The two may overlap as in `Buffers`: what is decrypted is shorter than its records were, and of those at most
        the beginning of one was fed before, so it never reaches what is still to be fed.
        """
        write = self.incoming.write
        at = count = 0
        while len(raw) - at > PORTION:
            write(raw[at : at + PORTION])
            at += PORTION
            count = self._read_whole_records(clear, count)
        write(raw[at:] if at else raw)
        return count

    def _read_whole_records(self, clear: memoryview, count: int) -> int:
        """As `read_into`, of records that are there to their end: to try one that is not costs an exception (10 us)."""
        read, incoming = self._read, self.incoming
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while incoming.pending >= _WHOLE_RECORD and not self.peer_has_ended:
                got = read(ONE_RECORD, clear[count:])
                self.peer_has_ended = not got
                count += got
        return count

    def encrypt(self, clear: memoryview) -> list[bytes]:
        """Return the records that `clear` makes, behind what waits in `outgoing`."""
        write, records = self.write, self.outgoing.read
        portion = PORTION if len(clear) >= _LONG else RECORD
        parts = []
        for at in range(0, len(clear), portion):
            write(clear[at : at + portion])
            parts.append(records())
        return parts

    def read_into(self, clear: memoryview, count: int = 0) -> int:
        """Decrypt everything that was fed into `clear`, which must have room for it; returns the count.

        It goes on behind the `count` that is there already.
        All of it, always: a `close_notify` left unread would look like truncation later. The BIO is asked whether there
        is more, because "wants more" is an exception, and one per message is dear (4 us); with OpenSSL's read-ahead off
        the session itself keeps nothing but the beginning of a record of which the rest is still on its way. Sets
        `peer_has_ended` when it is met. Raises ssl.SSLError for an alert or for bytes that do not authenticate.
        """
        read, incoming = self._read, self.incoming
        try:
            while incoming.pending:
                got = read(ONE_RECORD, clear[count:] if count else clear)
                if not got:
                    self.peer_has_ended = True
                    break
                count += got
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.peer_has_ended = True  # how the peer's close_notify reads after we have sent ours
        return count

    def flush_alert(self) -> None:
        """Send what the session still wants to say, without waiting: a fatal alert precedes the reset."""
        with contextlib.suppress(OSError):
            self.sock.send(self.outgoing.read())

    async def flush(self) -> None:
        """Send all that the session wants to say. Raises OSError."""
        if not self.outgoing.pending:
            return
        waiting = memoryview(self.outgoing.read())
        while waiting:
            try:
                waiting = waiting[self.sock.send(waiting) :]
            except BlockingIOError:
                await in_task()
                await trio.lowlevel.wait_writable(self.sock)

    async def _hear_hello(self, place: Place | None) -> None:
        """Feed the client's first record once it is whole: for half a one nobody should have to wait his turn."""
        heard = b""
        while True:
            if place is not None and place.lost:
                raise _crowded_out()
            received = await receive(self.sock, _FLIGHT)
            if not received:
                raise HandshakeError(HandshakeFault.CLOSED, "the peer closed the connection during the handshake")
            heard += received
            if _is_whole(heard):
                break
        self._said = len(heard)
        self.incoming.write(heard)
        if place is not None:
            place.has_spoken()

    async def _feed(self, place: Place | None) -> None:
        if place is not None and place.lost:
            raise _crowded_out()
        if self._said >= MOST_IN_HANDSHAKE:
            detail = f"the peer says more than {MOST_IN_HANDSHAKE // 1024} KiB before the handshake is over"
            raise HandshakeError(HandshakeFault.TOO_LARGE, detail)
        received = await receive(self.sock, _FLIGHT)
        if place is not None:
            place.has_spoken()
        if not received:
            raise HandshakeError(HandshakeFault.CLOSED, "the peer closed the connection during the handshake")
        self._said += len(received)
        self.incoming.write(received)


def unsent(parts: Sequence[bytes | memoryview], sent: int) -> memoryview:
    """Return what is left of these behind the first `sent` bytes: a copy, which keeps nothing else alive."""
    rest = []
    for part in parts:
        if sent < len(part):
            rest.append(part[sent:] if sent else part)
        sent = max(sent - len(part), 0)
    return memoryview(b"".join(rest))


def _is_whole(heard: bytes) -> bool:
    """Whether this (at least a byte) is a whole record of a handshake, or can become none (RFC 8446 section 5.1)."""
    if heard[0] != _HANDSHAKE:
        return True
    if len(heard) < _RECORD_HEADER:
        return False
    length = int.from_bytes(heard[3:5], "big")
    return length > _LONGEST_RECORD or len(heard) >= _RECORD_HEADER + length


def _crowded_out() -> HandshakeError:
    return HandshakeError(HandshakeFault.CROWDED_OUT, "too many others came while it said nothing")


class _Inner(Protocol):
    def read(self, size: int, into: memoryview, /) -> int: ...

    def write(self, data: bytes | memoryview, /) -> int: ...


def _inner(session: ssl.SSLObject) -> _Inner:
    """What does the work of an `SSLObject`: the same methods, if a Python should come without it."""
    return cast("_Inner", getattr(session, "_sslobj", None) or session)


class _Certificate(Protocol):
    def public_bytes(self, encoding: int) -> bytes: ...


class _ChainHolder(Protocol):
    def get_verified_chain(self) -> Sequence[bytes | _Certificate] | None: ...


_DER: Final = 2  # _ssl.ENCODING_DER


def _last_of_verified_chain(session: ssl.SSLObject) -> bytes | None:
    """The anchor of the peer's chain as OpenSSL built it.

    Public as `SSLObject.get_verified_chain` from Python 3.13; the object below has had it since 3.10.
    """
    holder = session if hasattr(session, "get_verified_chain") else getattr(session, "_sslobj", None)
    chain = None if holder is None else cast("_ChainHolder", holder).get_verified_chain()
    if not chain:
        return None
    last = chain[-1]
    return last if isinstance(last, bytes) else last.public_bytes(_DER)


class _Limit:
    """How long a handshake may take, on the sweeper's clock: a cancel scope costs 10 us, this half of one.

    It wakes who waits for the socket as if that were being closed, at every tick until it is discarded: who was not
    waiting when the time ran out is woken at his next wait.
    """

    __slots__ = ("_interrupt", "deadline", "has_passed")

    def __init__(self, interrupt: Callable[[], None], deadline: float) -> None:
        self._interrupt = interrupt
        self.deadline = deadline
        self.has_passed = False

    def expire(self, _now: float) -> None:
        self.has_passed = True
        self._interrupt()


async def receive(sock: socket.socket, most: int) -> bytes:
    """Return what a non-blocking socket has, at most `most` bytes, waiting for the first; `b""` at its end."""
    while True:
        try:
            return sock.recv(most)
        except BlockingIOError:
            await readable(sock)
