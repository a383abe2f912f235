"""The doors of a CA: connections taken on below a cap, handshakes and requests under deadlines, one answer each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.enroll.exchange import Unsound, read_request, send_answer
from meshproxy.enroll.rates import origin
from meshproxy.enroll.service import MOST_BYTES, Peer
from meshproxy.wire.closing import linger, reset
from meshproxy.wire.listen import accept_forever, accept_waiting
from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from meshproxy.enroll.account import Account
    from meshproxy.enroll.service import Desk
    from meshproxy.wire.sweep import Sweeper

MOST: Final = 512  # connections held at once
MOST_PER_ADDRESS: Final = 128  # of them by one address: one that says nothing leaves room for the others
_PATIENCE: Final = 10.0  # seconds for the handshake, for the request, and for the answer to be taken


class Office:
    """Serves the desk on any number of listening sockets. `context` is asked for each connection."""

    def __init__(
        self,
        desk: Desk,
        context: Callable[[], ssl.SSLContext],
        sweeper: Sweeper,
        account: Account,
        *,
        most: int = MOST,
        most_per_address: int = MOST_PER_ADDRESS,
    ) -> None:
        self._desk = desk
        self._context = context
        self._sweeper = sweeper
        self._account = account
        self._most = most
        self._most_per_address = most_per_address
        self._open: Counter[str] = Counter()  # by address; holds none that has no connection

    def __repr__(self) -> str:
        return f"<Office open={self.open}/{self._most}>"

    @property
    def open(self) -> int:
        """How many connections are held now."""
        return self._open.total()

    async def serve(self, listener: socket.socket, connections: trio.Nursery) -> None:
        """Accept until cancelled; connections live in `connections` and outlive this."""
        await accept_forever(listener, self._taker(connections), self._starved)

    def take_waiting(self, listener: socket.socket, connections: trio.Nursery) -> None:
        """Take on who waits in the queue: closing the listener would reset them."""
        accept_waiting(listener, self._taker(connections), self._starved)

    def _taker(self, connections: trio.Nursery) -> Callable[[socket.socket, str], None]:
        def take(sock: socket.socket, peer: str) -> None:
            who = origin(peer)
            if self.open >= self._most or self._open[who] >= self._most_per_address:
                reset(sock)
                of_one = self.open < self._most
                self._account.turned_away(
                    "max_per_address" if of_one else "max_connections", peer=peer, remedy="they come back by themselves"
                )
                return
            self._open[who] += 1
            self._account.figures.open.set(self.open)
            connections.start_soon(self._attend, sock, peer, who)

        return take

    async def _attend(self, sock: socket.socket, peer: str, who: str) -> None:
        try:
            await self._serve(sock, peer)
        except Exception:  # a bug in one connection must not end the others
            self._account.log.exception("internal_error", peer=peer)
        finally:
            reset(sock)
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]
            self._account.figures.open.set(self.open)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        tls = TlsConnection(sock, self._context(), server_side=True)
        try:
            await tls.handshake(self._sweeper, within=_PATIENCE)
        except HandshakeError as error:
            self._account.handshake_failed(error.fault, error.detail, peer=peer)
            if error.fault is not HandshakeFault.TIMEOUT:
                await linger(sock)  # the alert tells the caller why; RST would overtake it
            return
        stream = TlsStream(tls)
        try:
            await self._exchange(stream, peer, tls.peer_certificate)
        except (StreamBroken, trio.TooSlowError):
            stream.abort()  # nobody listens: a request that breaks off is not answered

    async def _exchange(self, stream: TlsStream, peer: str, leaf: bytes | None) -> None:
        method = b"GET"
        try:
            with trio.fail_after(_PATIENCE):
                request = await read_request(stream, most=MOST_BYTES)
            if request is None:
                await stream.close()
                return
            method = request.method
            answer = await self._desk.answer(request, Peer(peer, leaf))
        except Unsound as unsound:
            answer = self._desk.unsound(unsound.status, str(unsound), peer)
        self._account.figures.answers.labels(str(answer.status)).inc()
        with trio.fail_after(_PATIENCE):
            await send_answer(stream, answer, to=method)
            await stream.close()

    def _starved(self, error: OSError) -> None:
        self._account.turned_away(
            "descriptors", peer="", remedy=f"{error.strerror or error}: raise the limit of open files (LimitNOFILE=)"
        )
