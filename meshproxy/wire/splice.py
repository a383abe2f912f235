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

from meshproxy.wire.encrypting import BARE_FIN, FLOOD, Encrypting, SideBroken
from meshproxy.wire.ends import ConnectionEnd, End, PeerEof, Side
from meshproxy.wire.readiness import HANGUP, READ
from meshproxy.wire.taken import reach
from meshproxy.wire.tls import MOST_FRUITLESS
from meshproxy.wire.tls_faults import alert_in_words, breach_in_words

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Held:
    """What an exchange left unsent when its connection was upgraded: bytes for the plain side, records for the TLS."""

    to_plain: bytes = b""
    records: bytes = b""


class Splice(Encrypting):
    """Relays between a plain socket and a TLS connection until both directions have ended.

    Its owner (a task) calls `start`, awaits `done`, asks `result()`, and always calls `release` before it closes the
    sockets. `sent_to_tls` and `sent_to_plain` count application bytes taken from one side for the other.
    """

    __slots__ = ()

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
        if isinstance(error, SideBroken):
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

    def _say_first_words(self) -> None:
        self._pull_plain(READ)

    # TLS -> plain

    def _pull_tls(self, events: int) -> bool:
        if self._to_plain is not None or (self._tls_eof and not self._tls_hangup):
            return False
        raw, chunk = self._buffers.raw, reach(self._plain, self._tls_chunk)
        try:
            count = self._tls.sock.recv_into(raw, chunk)
        except BlockingIOError:
            return True
        except OSError as error:
            raise SideBroken(Side.TLS, error) from error
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
            self._finish(ConnectionEnd(End.CORRUPT, Side.TLS, FLOOD))

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
            self._finish(ConnectionEnd(End.TRUNCATED, Side.TLS, BARE_FIN))
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
                raise SideBroken(Side.PLAIN, error) from error
        self._plain_shut = True
        self._finish_when_both_ended()


def _end_of_session(error: ssl.SSLError, received: int) -> ConnectionEnd:
    """Name a TLS error on an established connection: the peer's alert, or what broke it."""
    reason = error.reason or ""
    alert = alert_in_words(reason)
    if alert is not None:
        # In TLS 1.3 a client's handshake succeeds before the server has judged it: the first read tells.
        return ConnectionEnd(End.RESET if received else End.REFUSED, Side.TLS, alert)
    return ConnectionEnd(End.CORRUPT, Side.TLS, breach_in_words(reason))
