"""What a splice has in its hands, and its one direction: plain bytes become TLS records; see `splice`."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from meshproxy.wire.ends import ConnectionEnd, End, PeerEof, Side
from meshproxy.wire.fiber import Signal
from meshproxy.wire.taken import reach
from meshproxy.wire.tls import MOST_UNSENT_CONTROL, RECORD, unsent

if TYPE_CHECKING:
    import socket

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.tls import TlsConnection

BARE_FIN = "the peer ended without close_notify"
FLOOD = "the peer floods control messages"


class SideBroken(Exception):
    """One side broke the connection; `end` tells which, and how."""

    def __init__(self, side: Side, error: OSError) -> None:
        super().__init__(str(error))
        self.end = ConnectionEnd(End.RESET, side, error.strerror or "connection lost")


class Encrypting:
    """The state of a splice, how it ends, and what it does with the bytes of the plain side."""

    __slots__ = (
        "_buffers",
        "_end",
        "_engine",
        "_fruitful_at",
        "_fruitless",
        "_is_released",
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
        self._is_released = False
        self.bare_fin = False
        self.sent_to_plain = 0
        self.sent_to_tls = 0
        self._fruitless = 0  # bytes of records that held nothing, since so many had been sent to the plain side
        self._fruitful_at = 0
        self.done = Signal()

    def __repr__(self) -> str:
        def state(eof: bool, shut: bool, rest: memoryview | None) -> str:  # noqa: FBT001 - three flags, told at once
            return ("read-closed " if eof else "") + ("write-closed " if shut else "") + f"waiting={_size(rest)}"

        return (
            f"<{type(self).__name__} plain[{state(self._plain_eof, self._plain_shut, self._to_plain)}]"
            f" tls[{state(self._tls_eof, self._tls_shut, self._to_tls)}] end={self._end}>"
        )

    @property
    def moved(self) -> int:
        """A number that changes whenever a byte moves: what was taken from either side, less what still waits."""
        return self.sent_to_tls + self.sent_to_plain - _size(self._to_tls) - _size(self._to_plain)

    def release(self) -> None:
        """Let go of both sockets and of what waits; idempotent."""
        if self._is_released:
            return
        self._is_released = True
        self._engine.forget(self._plain)
        self._engine.forget(self._tls.sock)
        if self._to_plain is not None or self._to_tls is not None:  # mostly nothing waits
            self._hold_for_plain(None)
            self._hold_for_tls(None)

    def _finish(self, end: ConnectionEnd | BaseException) -> None:
        if self._end is None:
            self._end = end
            self.release()
            self.done.set()

    def _finish_when_both_ended(self) -> None:
        if self._plain_shut and self._tls_shut and self._to_plain is None and self._to_tls is None:
            # A lenient listener takes a bare FIN for an end, and says that it was one.
            self._finish(ConnectionEnd(End.CLEAN, None, BARE_FIN if self.bare_fin else ""))

    # plain -> TLS

    # One read per callback: whoever has more comes again behind the others, so a bulk stream delays a small message by
    # one chunk at most.

    def _pull_plain(self, events: int) -> bool:
        if self._to_tls is not None or (self._plain_eof and not self._plain_hangup):
            return False
        raw, chunk = self._buffers.raw, reach(self._tls.sock, self._plain_chunk)
        try:
            count = self._plain.recv_into(raw, chunk)
        except BlockingIOError:
            return True
        except OSError as error:
            raise SideBroken(Side.PLAIN, error) from error
        if not count:
            if not self._plain_eof:
                self._plain_eof = True
                self._close_tls()
            return False
        self.sent_to_tls += count
        if count > RECORD:
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

    def _send_tls(self) -> None:
        if self._to_tls is not None:
            if self._tls.outgoing.pending > MOST_UNSENT_CONTROL:
                self._finish(ConnectionEnd(End.CORRUPT, Side.TLS, FLOOD))
            return
        records = self._tls.outgoing.read()
        if not records:
            return
        sent = self._write(self._tls.sock, Side.TLS, records)
        if sent < len(records):
            self._hold_for_tls(memoryview(records[sent:]))
            self._engine.arm_write(self._tls.sock)

    def _send_records(self, parts: list[bytes]) -> None:
        try:
            sent = self._tls.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise SideBroken(Side.TLS, error) from error
        if sent < sum(map(len, parts)):
            self._hold_for_tls(unsent(parts, sent))
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
        except SideBroken:
            # The peer said goodbye properly and left before hearing ours: nothing was lost.
            if not self._tls_eof:
                raise
        self._finish_when_both_ended()

    # Shared by both directions.

    def _write(self, sock: socket.socket, side: Side, data: bytes | memoryview) -> int:
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise SideBroken(side, error) from error

    def _hold_for_plain(self, rest: memoryview | None) -> None:
        self._buffers.held += _size(rest) - _size(self._to_plain)
        self._to_plain = rest

    def _hold_for_tls(self, rest: memoryview | None) -> None:
        self._buffers.held += _size(rest) - _size(self._to_tls)
        self._to_tls = rest


def _size(rest: memoryview | None) -> int:
    return 0 if rest is None else len(rest)
