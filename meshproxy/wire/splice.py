"""TCP mode: plain bytes on one side, TLS records on the other, moved by plain callbacks.

The state per direction is one remainder at most: what the far socket would not take. While it waits, the near socket is
not read; that is the whole of the back-pressure, and the bound on memory.

How an end is told apart (RFC 8446 section 6.1): `close_notify` ends a direction; a bare FIN on the TLS side is
truncation, because anybody on the path can send one. A normal end sends `close_notify`; an abort never does, it resets,
because peers pass a clean end on as a clean end.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshproxy.wire.ends import ConnectionEnd, End, PeerEof, Side
from meshproxy.wire.readiness import HANGUP, READ
from meshproxy.wire.tls import MOST_FRUITLESS, MOST_UNSENT_CONTROL, PORTION
from meshproxy.wire.tls_faults import alert_in_words, breach_in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.tls import TlsConnection

_BARE_FIN = "the peer ended without close_notify"
_FLOOD = "the peer floods control messages"


class _Broken(Exception):
    def __init__(self, side: Side, error: OSError) -> None:
        super().__init__(str(error))
        self.end = ConnectionEnd(End.RESET, side, error.strerror or "connection lost")


@dataclass(frozen=True, slots=True)
class Held:
    """What an exchange left unsent when its connection was upgraded: bytes for the plain side, records for the TLS."""

    to_plain: bytes = b""
    records: bytes = b""


class Splice:
    """Relays between a plain socket and a TLS connection until both directions have ended.

    Its owner (a task) calls `start`, awaits `done`, asks `result()`, and always calls `release` before it closes the
    sockets. `sent_to_tls` and `sent_to_plain` count application bytes taken from one side for the other.
    """

    __slots__ = (
        "_buffers",
        "_end",
        "_engine",
        "_fruitful_at",
        "_fruitless",
        "_peer_eof",
        "_plain",
        "_plain_chunk",
        "_plain_eof",
        "_plain_hangup",
        "_plain_shut",
        "_tls",
        "_tls_chunk",
        "_tls_eof",
        "_tls_hangup",
        "_tls_shut",
        "_to_plain",
        "_to_tls",
        "bare_fin",
        "done",
        "sent_to_plain",
        "sent_to_tls",
    )

    def __init__(
        self, engine: Readiness, buffers: Buffers, plain: socket.socket, tls: TlsConnection, peer_eof: PeerEof
    ) -> None:
        """Take both connected sides; nothing moves before `start`."""
        self._engine = engine
        self._buffers = buffers
        self._plain = plain
        self._tls = tls
        self._peer_eof = peer_eof
        self._to_plain: memoryview | None = None
        self._to_tls: memoryview | None = None
        # "eof": the side has said its last byte. "shut": we have said ours to it. "hangup": the kernel hinted at an
        # end, so a short read no longer proves that the socket is drained (data and FIN share one edge).
        self._plain_eof = self._tls_eof = False
        self._plain_shut = self._tls_shut = False
        self._plain_hangup = self._tls_hangup = False
        self._plain_chunk = self._tls_chunk = buffers.smallest
        self._end: ConnectionEnd | BaseException | None = None
        self.bare_fin = False
        self.sent_to_plain = 0
        self.sent_to_tls = 0
        self._fruitless = 0  # bytes of records that held nothing, since so many had been sent to the plain side
        self._fruitful_at = 0
        self.done = trio.Event()

    def __repr__(self) -> str:
        def state(eof: bool, shut: bool, rest: memoryview | None) -> str:  # noqa: FBT001 - three flags, told at once
            return ("read-closed " if eof else "") + ("write-closed " if shut else "") + f"waiting={_size(rest)}"

        return (
            f"<Splice plain[{state(self._plain_eof, self._plain_shut, self._to_plain)}]"
            f" tls[{state(self._tls_eof, self._tls_shut, self._to_tls)}] end={self._end}>"
        )

    @property
    def moved(self) -> int:
        """A number that changes whenever a byte moves: what was taken from either side, less what still waits."""
        return self.sent_to_tls + self.sent_to_plain - _size(self._to_tls) - _size(self._to_plain)

    def start(self, held: Held | None = None) -> None:
        """Register both sockets and move what is already there.

        `held` is what somebody before us could not send yet; who hands that over has drained the session himself.
        """
        self._engine.watch(self._tls.sock, self._on_tls)
        if held is None and self._tls.outgoing.pending:
            # A client's last flight of the handshake: it leaves together with what the application has said by now.
            self._guarded(self._say_first_words)
            if self._end is not None:
                return
        self._engine.watch(self._plain, self._on_plain)
        if held is None:
            # Bytes that came with the last handshake flight are in the BIO, where no readiness event will tell of them.
            self._guarded(self._plain_from_session)
            return
        if held.to_plain:
            self._hold_for_plain(memoryview(held.to_plain))
            self._engine.arm_write(self._plain)
        if held.records:
            self._hold_for_tls(memoryview(held.records))
            self._engine.arm_write(self._tls.sock)
        if self._tls.peer_has_ended:
            self._tls_eof = True
            if not held.to_plain:
                self._guarded(self._close_plain)

    def cut(self, end: ConnectionEnd) -> None:
        """End it from outside, and for the given reason unless it has ended already."""
        self._finish(end)

    def result(self) -> ConnectionEnd:
        """Return how it ended; raises what a callback raised. Only after `done`."""
        if self._end is None:
            raise RuntimeError("the splice has not ended")
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def release(self) -> None:
        """Let go of both sockets and of what waits; idempotent."""
        self._engine.forget(self._plain)
        self._engine.forget(self._tls.sock)
        if self._to_plain is not None or self._to_tls is not None:  # mostly nothing waits
            self._hold_for_plain(None)
            self._hold_for_tls(None)

    # Callbacks of the engine. True: drained. False: there is nothing to read for now, or (at the end) ever.
    # A message costs one of them and what it calls: every call and attribute here is paid four times per request.

    def _on_plain(self, events: int) -> bool:
        try:
            if events & ~READ and not self._notice_plain(events):
                return True
            return self._pull_plain(events)
        except BaseException as error:  # noqa: BLE001 - whatever is raised ends this connection and no other
            return self._failed(error)

    def _on_tls(self, events: int) -> bool:
        try:
            if events & ~READ and not self._notice_tls(events):
                return True
            return self._pull_tls(events)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._failed(error)

    def _notice_plain(self, events: int) -> bool:
        """Take a hint of an end, or of room; returns whether there is still a connection to read."""
        if events & HANGUP:
            self._plain_hangup = True
        if self._to_plain is not None:
            self._flush_plain()
        return self._end is None

    def _notice_tls(self, events: int) -> bool:
        if events & HANGUP:
            self._tls_hangup = True
        if self._to_tls is not None:
            self._flush_tls()
        return self._end is None

    def _failed(self, error: BaseException) -> bool:
        if isinstance(error, _Broken):
            self._finish(error.end)
        elif isinstance(error, ssl.SSLError):
            self._tls.flush_alert()
            self._finish(_end_of_session(error, self.sent_to_plain))
        else:
            self._finish(error)  # the owner raises it: a bug or Ctrl-C surfaces there
        return True

    def _guarded(self, step: Callable[[], object]) -> None:
        """Run one step outside any callback, under the same guard."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - as above
            self._failed(error)

    def _finish(self, end: ConnectionEnd | BaseException) -> None:
        if self._end is None:
            self._end = end
            self.release()
            self.done.set()

    def _finish_when_both_ended(self) -> None:
        if self._plain_shut and self._tls_shut and self._to_plain is None and self._to_tls is None:
            # A lenient listener takes a bare FIN for an end, and says that it was one.
            self._finish(ConnectionEnd(End.CLEAN, None, _BARE_FIN if self.bare_fin else ""))

    # plain -> TLS

    # One read per callback: whoever has more comes again behind the others, so a bulk stream delays a small message by
    # one chunk at most.

    def _pull_plain(self, events: int) -> bool:
        if self._to_tls is not None or (self._plain_eof and not self._plain_hangup):
            return False
        raw, chunk = self._buffers.raw, self._plain_chunk
        try:
            count = self._plain.recv_into(raw, chunk)
        except BlockingIOError:
            return True
        except OSError as error:
            raise _Broken(Side.PLAIN, error) from error
        if not count:
            if not self._plain_eof:
                self._plain_eof = True
                self._close_tls()
            return False
        self.sent_to_tls += count
        if count > PORTION:
            self._send_records(self._tls.encrypt(raw[:count]))
        else:
            self._tls.write(raw[:count])
            self._send_tls()
        if count == chunk:
            self._plain_chunk = self._buffers.grown(chunk, crowded=self._engine.crowded)
        elif events and not self._plain_hangup:
            return True
        if self._to_tls is None:
            self._engine.resume(self._plain)
        return False

    def _say_first_words(self) -> None:
        self._pull_plain(READ)

    def _send_tls(self) -> None:
        if self._to_tls is not None:
            if self._tls.outgoing.pending > MOST_UNSENT_CONTROL:
                self._finish(ConnectionEnd(End.CORRUPT, Side.TLS, _FLOOD))
            return
        records = self._tls.outgoing.read()
        if not records:
            return
        sent = self._write(self._tls.sock, Side.TLS, records)
        if sent < len(records):
            self._hold_for_tls(memoryview(records)[sent:])
            self._engine.arm_write(self._tls.sock)

    def _send_records(self, parts: list[bytes]) -> None:
        try:
            sent = self._tls.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _Broken(Side.TLS, error) from error
        if sent < sum(map(len, parts)):
            self._hold_for_tls(memoryview(b"".join(parts))[sent:])
            self._engine.arm_write(self._tls.sock)

    def _flush_tls(self) -> None:
        waiting = self._to_tls
        if waiting is None:
            return
        sent = self._write(self._tls.sock, Side.TLS, waiting)
        if sent < len(waiting):
            self._hold_for_tls(waiting[sent:])
            return
        self._hold_for_tls(None)
        self._engine.disarm_write(self._tls.sock)
        self._send_tls()
        if self._to_tls is not None:
            return
        if not self._plain_eof:
            self._engine.resume(self._plain)
        elif not self._tls_shut:
            self._close_tls()
        else:
            self._finish_when_both_ended()

    def _close_tls(self) -> None:
        """Half-close towards the TLS peer: `close_notify`, exactly once, behind the last byte."""
        if self._tls_shut or self._to_tls is not None:
            return
        # `unwrap` with data in the BIO is fatal and loses it; the BIO is drained after every feed, so a partial record
        # at most is left. It asks for the peer's close_notify too, which may be far off: that is not our question.
        try:  # noqa: SIM105 - each connection comes by here, and `suppress` takes longer
            self._tls.session.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._tls_shut = True
        try:
            self._send_tls()
        except _Broken:
            # The peer said goodbye properly and left before hearing ours: nothing was lost.
            if not self._tls_eof:
                raise
        self._finish_when_both_ended()

    # TLS -> plain

    def _pull_tls(self, events: int) -> bool:
        if self._to_plain is not None or (self._tls_eof and not self._tls_hangup):
            return False
        raw, chunk = self._buffers.raw, self._tls_chunk
        try:
            count = self._tls.sock.recv_into(raw, chunk)
        except BlockingIOError:
            return True
        except OSError as error:
            raise _Broken(Side.TLS, error) from error
        if not count:
            if not self._tls_eof:
                self._end_without_notify()
            return False
        # RFC 8446 section 6.1: data after close_notify is ignored
        if not self._tls_eof and not self._plain_from_session(self._tls.feed(raw[:count], self._buffers.clear)):
            self._bear_fruitless(count)
        if count == chunk:
            self._tls_chunk = self._buffers.grown(chunk, crowded=self._engine.crowded)
        elif events and not self._tls_hangup:
            return True
        if self._to_plain is None:
            self._engine.resume(self._tls.sock)
        return False

    def _plain_from_session(self, count: int = 0) -> int:
        """Decrypt all that was fed and send it on, behind the `count` bytes that were decrypted meanwhile.

        Returns how many there were. An unread `close_notify` would look like truncation later.
        """
        clear = self._buffers.clear
        count = self._tls.read_into(clear, count)
        if self._tls.peer_has_ended:
            self._tls_eof = True
        if self._tls.outgoing.pending:
            self._send_tls()  # the answer to a KeyUpdate
        if count:
            self.sent_to_plain += count
            sent = self._write(self._plain, Side.PLAIN, clear[:count])
            if sent < count:
                self._hold_for_plain(memoryview(bytes(clear[sent:count])))
                self._engine.arm_write(self._plain)
                return count
        if self._tls_eof:
            self._close_plain()
        return count

    def _bear_fruitless(self, size: int) -> None:
        """Take that so many bytes of records held nothing for the plain side; see `MOST_FRUITLESS`."""
        if self._fruitful_at != self.sent_to_plain:
            self._fruitful_at, self._fruitless = self.sent_to_plain, 0
        self._fruitless += size
        if self._fruitless > MOST_FRUITLESS and self._end is None:
            self._finish(ConnectionEnd(End.CORRUPT, Side.TLS, _FLOOD))

    def _flush_plain(self) -> None:
        waiting = self._to_plain
        if waiting is None:
            return
        sent = self._write(self._plain, Side.PLAIN, waiting)
        if sent < len(waiting):
            self._hold_for_plain(waiting[sent:])
            return
        self._hold_for_plain(None)
        self._engine.disarm_write(self._plain)
        if self._tls_eof:
            self._close_plain()
        else:
            self._engine.resume(self._tls.sock)

    def _end_without_notify(self) -> None:
        self.bare_fin = True
        if self._peer_eof is PeerEof.STRICT:
            self._finish(ConnectionEnd(End.TRUNCATED, Side.TLS, _BARE_FIN))
        else:
            self._tls_eof = True
            self._close_plain()

    def _close_plain(self) -> None:
        """Half-close towards the plain side, behind the last byte."""
        if self._plain_shut:
            return
        try:
            self._plain.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it is gone already, and its own event tells how
                raise _Broken(Side.PLAIN, error) from error
        self._plain_shut = True
        self._finish_when_both_ended()

    # Shared by both directions.

    def _write(self, sock: socket.socket, side: Side, data: bytes | memoryview) -> int:
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _Broken(side, error) from error

    def _hold_for_plain(self, rest: memoryview | None) -> None:
        self._buffers.held += _size(rest) - _size(self._to_plain)
        self._to_plain = rest

    def _hold_for_tls(self, rest: memoryview | None) -> None:
        self._buffers.held += _size(rest) - _size(self._to_tls)
        self._to_tls = rest


def _size(rest: memoryview | None) -> int:
    return 0 if rest is None else len(rest)


def _end_of_session(error: ssl.SSLError, received: int) -> ConnectionEnd:
    """Name a TLS error on an established connection: the peer's alert, or what broke it."""
    reason = error.reason or ""
    alert = alert_in_words(reason)
    if alert is not None:
        # In TLS 1.3 a client's handshake succeeds before the server has judged it: the first read tells.
        return ConnectionEnd(End.RESET if received else End.REFUSED, Side.TLS, alert)
    return ConnectionEnd(End.CORRUPT, Side.TLS, breach_in_words(reason))
