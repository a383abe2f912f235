"""Bytes in and out of one non-blocking socket, plain or TLS, for whoever must look at them before passing them on.

(TCP mode does not look; it has `splice`.) A channel never waits. What the socket does not take is held, and the driver
that sees `waiting` stops reading the other side: that is the back-pressure.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import TYPE_CHECKING, Protocol

from meshproxy.wire.readiness import HANGUP, READ
from meshproxy.wire.taken import reach
from meshproxy.wire.tls import MOST_FRUITLESS, MOST_UNSENT_CONTROL, PORTION, RECORD, unsent
from meshproxy.wire.tls_faults import alert_in_words, breach_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.tls import TlsConnection


# Of one system call: IOV_MAX is 1,024 (sendmsg(2)), and many small parts are faster to join.
_MOST_PARTS = 128


class ChannelBroken(Exception):
    """The connection broke; the text says how. `refused` when a TLS alert of the peer said so."""

    def __init__(self, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


class Channel(Protocol):
    """One side of an exchange.

    `drained` tells that the socket has no more, until the engine hints otherwise; `ended` that no byte will follow, and
    `ended_cleanly` that the peer itself said so (plain: FIN; TLS: close_notify). `waiting` is how many bytes are held.
    """

    sock: socket.socket
    drained: bool
    ended: bool
    ended_cleanly: bool
    waiting: int

    def hint(self, events: int) -> None:
        """Take the engine's event flags; after a hang-up a short read proves nothing."""

    def receive(self) -> bytes:
        """Return what came, `b""` when nothing did or the stream ended. Raises ChannelBroken."""

    def look(self, onward: socket.socket | None = None) -> memoryview:
        """As `receive`, but return a view of the scratch memory: to be let go of before anything else is read.

        For what is long and passed on as it is. If it is known where, `onward`, no more is read at once than is good
        for who has taken so much (see `taken`): the rest would wait here.
        """

    def send(self, data: bytes | memoryview) -> None:
        """Send, or hold what the socket does not take. Raises ChannelBroken."""

    def send_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """As `send`, of what lies in several places, or nowhere. Raises ChannelBroken."""

    def flush(self) -> None:
        """Go on sending what is held. Raises ChannelBroken."""

    def stirs(self) -> bool:
        """Whether the kernel has something for us: bytes, an end, an error. It is asked now, without an exception."""

    def finish(self) -> None:
        """Say the end of the stream, behind what is held; idempotent. Raises ChannelBroken."""

    def release(self) -> bytes:
        """Let go of what is held and return it: the connection is over, or somebody else's from now on."""


class _Base:
    """What both kinds share: reading, and the one remainder that waits."""

    def __init__(self, sock: socket.socket, engine: Readiness, buffers: Buffers) -> None:
        self.sock = sock
        self.drained = False
        self.ended = False
        self.ended_cleanly = False
        self.waiting = 0
        self._engine = engine
        self._buffers = buffers
        self._chunk = buffers.smallest
        self._hung_up = False
        self._held: memoryview | None = None
        self._finishing = False  # the end is to be said behind what is held
        self._finished = False  # it was said
        self._poll: select.poll | None = None  # made when first needed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.sock.fileno()} waiting={self.waiting} ended={self.ended}>"

    def stirs(self) -> bool:
        """See Channel."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.sock, select.POLLIN)  # an end is readable, and errors are told unasked
        return bool(self._poll.poll(0))

    def hint(self, events: int) -> None:
        """See Channel."""
        if events & (READ | HANGUP):
            self.drained = False
        if events & HANGUP:
            self._hung_up = True

    def flush(self) -> None:
        """See Channel."""
        held = self._held
        if held is None:
            return
        try:
            sent = self.sock.send(held)
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelBroken(error.strerror or "connection lost") from error
        if sent < len(held):
            self._hold(held[sent:])
            return
        self._hold(None)
        self._engine.disarm_write(self.sock)
        if self._finishing:
            self.finish()

    def finish(self) -> None:
        """See Channel."""
        self._finishing = self._held is not None
        if not self._finishing and not self._finished:
            self._finished = True
            self._say_end()

    def release(self) -> bytes:
        """See Channel."""
        held = b"" if self._held is None else bytes(self._held)
        self._hold(None)
        return held

    def _say_end(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def transmit(self, data: bytes | memoryview) -> None:
        """Send bytes as they are, or hold what the socket does not take. Raises ChannelBroken."""
        if self._held is not None:
            # Only replies and the ends of messages come while something waits: drivers stop reading then.
            self._hold(memoryview(b"".join((self._held, data))))
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ChannelBroken(error.strerror or "connection lost") from error
        if sent < len(data):
            # A copy: no view of the scratch memory survives a callback, and one of a message would keep all of it.
            self._hold(memoryview(bytes(data[sent:])))
            self._engine.arm_write(self.sock)

    def transmit_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """As `transmit`, of what lies in several places; nothing may wait."""
        try:
            sent = self.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ChannelBroken(error.strerror or "connection lost") from error
        if sent < sum(map(len, parts)):
            self._hold(unsent(parts, sent))
            self._engine.arm_write(self.sock)

    def _fill_scratch(self, onward: socket.socket | None) -> int | None:
        """Read once into the scratch memory; returns the count: 0 at the end of the stream, None for nothing."""
        chunk = self._chunk if onward is None else reach(onward, self._chunk)
        try:
            count = self.sock.recv_into(self._buffers.raw, chunk)
        except BlockingIOError:
            self.drained = True
            return None
        except OSError as error:
            raise ChannelBroken(error.strerror or "connection lost") from error
        if count == chunk:
            self._chunk = self._buffers.grown(chunk, crowded=self._engine.crowded)
            self.drained = False
        else:
            self.drained = not self._hung_up
        return count

    def _hold(self, rest: memoryview | None) -> None:
        waiting = 0 if rest is None else len(rest)
        self._buffers.held += waiting - self.waiting
        self._held, self.waiting = rest, waiting


class PlainChannel(_Base):
    """A socket as it is."""

    def receive(self) -> bytes:
        """See Channel."""
        # All in one here and in `TlsChannel`, for this is the way of all small messages. Not into the scratch memory:
        # copying them out of there takes longer than giving back what is too much of a fresh block (0.5 us).
        chunk = self._chunk
        try:
            data = self.sock.recv(chunk)
        except BlockingIOError:
            self.drained = True
            return b""
        except OSError as error:
            raise ChannelBroken(error.strerror or "connection lost") from error
        if len(data) == chunk:
            self._chunk = self._buffers.grown(chunk, crowded=self._engine.crowded)
            self.drained = False
        elif data:
            self.drained = not self._hung_up
        else:
            self.ended = self.ended_cleanly = self.drained = True
        return data

    def look(self, onward: socket.socket | None = None) -> memoryview:
        """See Channel."""
        count = self._fill_scratch(onward)
        if count == 0:
            self.ended = self.ended_cleanly = self.drained = True
        return self._buffers.raw[: count or 0]

    send = _Base.transmit

    def send_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """See Channel."""
        if self._held is None and 1 < len(parts) <= _MOST_PARTS:
            self.transmit_all(parts)
        else:
            self.transmit(parts[0] if len(parts) == 1 else b"".join(parts))


class TlsChannel(_Base):
    """The application's bytes of a TLS connection."""

    def __init__(self, tls: TlsConnection, engine: Readiness, buffers: Buffers) -> None:
        super().__init__(tls.sock, engine, buffers)
        self.tls = tls
        # Bytes that came with the last handshake flight are in the BIO already: the first look is there.
        self._looked = not tls.incoming.pending
        self._fruitless = 0  # see `MOST_FRUITLESS`

    def receive(self) -> bytes:
        """See Channel."""
        if self._looked:
            if self._chunk > PORTION:  # bulk, which a fresh block would only push out of the cache
                return self._look(None).tobytes()
            chunk = self._chunk
            try:
                data = self.sock.recv(chunk)
            except BlockingIOError:
                self.drained = True
                return b""
            except OSError as error:
                raise ChannelBroken(error.strerror or "connection lost") from error
            if len(data) == chunk:
                self._chunk = self._buffers.grown(chunk, crowded=self._engine.crowded)
                self.drained = False
            elif data:
                self.drained = not self._hung_up
            else:
                self.ended = self.drained = True
                return b""
            self.tls.incoming.write(data)
        else:
            data, self._looked = b"", True
        # As `_decrypt`, without the call of it: this is the way of all small messages.
        tls, clear = self.tls, self._buffers.clear
        try:
            count = tls.read_into(clear)
        except ssl.SSLError as error:
            raise self._broken(error) from error
        if not count or self._fruitless:
            self._bear_fruitless(len(data), count)
        if tls.outgoing.pending or tls.peer_has_ended:
            self._notice()
        return clear[:count].tobytes()

    def look(self, onward: socket.socket | None = None) -> memoryview:
        """See Channel."""
        if not self._looked:
            self._looked = True
            return self._decrypt(0)
        return self._look(onward)

    def _look(self, onward: socket.socket | None) -> memoryview:
        count = self._fill_scratch(onward)
        if not count:
            if count is not None:
                self.ended = self.drained = True
            return self._buffers.clear[:0]
        return self._decrypt(count)

    def _decrypt(self, count: int) -> memoryview:
        """Return what can be read of the session, fed with so much of the scratch memory."""
        tls, clear, fed = self.tls, self._buffers.clear, count
        try:
            count = tls.read_into(clear, tls.feed(self._buffers.raw[:count], clear) if count else 0)
        except ssl.SSLError as error:
            raise self._broken(error) from error
        if not count or self._fruitless:
            self._bear_fruitless(fed, count)
        if tls.outgoing.pending or tls.peer_has_ended:
            self._notice()
        return clear[:count]

    def _bear_fruitless(self, size: int, count: int) -> None:
        """Take that `size` bytes of records held `count` for the application; raises ChannelBroken if none for long."""
        self._fruitless = 0 if count else self._fruitless + size
        if self._fruitless > MOST_FRUITLESS:
            raise ChannelBroken("the peer floods control messages")

    def _broken(self, error: ssl.SSLError) -> ChannelBroken:
        """Say so to the peer, and return what is to be raised."""
        self.tls.flush_alert()
        reason = error.reason or ""
        alert = alert_in_words(reason)
        return ChannelBroken(alert or breach_in_words(reason), refused=alert is not None)

    def _notice(self) -> None:
        """Take what the peer has said beside application bytes."""
        if self.tls.outgoing.pending:
            self._answer_control()
        if self.tls.peer_has_ended:
            self.ended = self.ended_cleanly = self.drained = True

    def _answer_control(self) -> None:
        """Send the answer to a KeyUpdate; a peer that asks for many and reads none does so on purpose."""
        if not self.waiting:
            # What was just read may be the peer's last words; that it has left without ours does not undo them.
            with contextlib.suppress(ChannelBroken):
                self.transmit(self.tls.outgoing.read())
        elif self.tls.outgoing.pending > MOST_UNSENT_CONTROL:
            raise ChannelBroken("the peer floods control messages")

    def send(self, data: bytes | memoryview) -> None:
        """See Channel."""
        tls = self.tls
        try:
            if len(data) > RECORD:
                parts = tls.encrypt(memoryview(data))
                if self._held is None:
                    self.transmit_all(parts)
                else:
                    self.transmit(b"".join(parts))
                return
            tls.write(data)
        except ssl.SSLError as error:
            raise ChannelBroken("the TLS session is broken") from error
        self.transmit(tls.outgoing.read())

    def send_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """See Channel."""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if data:
            self.send(data)

    def _say_end(self) -> None:
        # Once, and behind the last byte; see `splice` for the rules of `unwrap`. What the peer still says is of no use
        # here, so an error over it (data behind our end) must not keep our end from leaving.
        with contextlib.suppress(ssl.SSLError):
            self.tls.session.unwrap()
        with contextlib.suppress(ChannelBroken):
            self.transmit(self.tls.outgoing.read())
