"""One established connection, attended from its first byte to its end by the task that owns both sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import trio

from meshproxy.wire.closing import delivered, reset
from meshproxy.wire.ends import ConnectionEnd, End, PeerEof
from meshproxy.wire.splice import Splice

if TYPE_CHECKING:
    import socket

    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness
    from meshproxy.wire.splice import Held
    from meshproxy.wire.tls import TlsConnection

Wall = Callable[[], datetime]  # the wall clock (aware, UTC): certificates end by it, and it jumps

# How seldom a connection is looked at: often enough for a clock that jumped, a suspended machine, a short idle limit.
_LONGEST_BEAT = 30.0
_BEATS_PER_IDLE = 4


@dataclass(frozen=True, slots=True)
class Term:
    """How long a connection may live: `idle_timeout` seconds without a byte, and until `valid_until` at the latest."""

    idle_timeout: float
    valid_until: datetime


@dataclass(slots=True)
class Traffic:
    """Application bytes moved so far, as the access line tells them, and whether the TLS peer just hung up."""

    to_tls: int = 0
    to_plain: int = 0
    bare_fin: bool = False


@dataclass(frozen=True, slots=True)
class Relay:
    """The engine and the buffers that all connections of one sidecar share."""

    engine: Readiness
    buffers: Buffers
    wall: Wall

    async def run(
        self,
        plain: socket.socket,
        tls: TlsConnection,
        *,
        peer_eof: PeerEof,
        term: Term,
        traffic: Traffic,
        held: Held | None = None,
    ) -> ConnectionEnd:
        """Relay between the two until the end, and close both sockets: properly after a clean end, else by RST.

        Returns how it ended; `traffic` is kept up to date even when this is cancelled. `held` is what an upgraded
        exchange left unsent. Raises what a callback raised.
        """
        splice = Splice(self.engine, self.buffers, plain, tls, peer_eof)
        clean = False
        try:
            splice.start(held)
            ended = await self._attend(splice, term)
            clean = ended.end is End.CLEAN
            if ended.end is End.TRUNCATED:
                await delivered(plain)
            return ended
        finally:
            splice.release()
            traffic.to_tls, traffic.to_plain = splice.sent_to_tls, splice.sent_to_plain
            traffic.bare_fin = splice.bare_fin
            for sock in (plain, tls.sock):
                if clean:
                    sock.close()
                else:
                    reset(sock)

    async def _attend(self, splice: Splice, term: Term) -> ConnectionEnd:
        moved, quiet_since = -1, trio.current_time()
        while True:
            left = (term.valid_until - self.wall()).total_seconds()
            if left <= 0:
                return ConnectionEnd(End.AGED, None, "a certificate of this connection has expired")
            with trio.move_on_after(min(left, term.idle_timeout / _BEATS_PER_IDLE, _LONGEST_BEAT)):
                await splice.done.wait()
            if splice.done.is_set():
                return splice.result()
            now, total = trio.current_time(), splice.moved
            if total != moved:
                moved, quiet_since = total, now
            elif now - quiet_since >= term.idle_timeout:
                return ConnectionEnd(End.IDLE, None, f"nothing moved for {term.idle_timeout:g} s")
