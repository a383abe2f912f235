"""A TLS connection as a task reads and writes it: for the few exchanges that are not worth an engine.

What carries traffic is driven from readiness callbacks (`wire/splice`, `wire/channel`); what asks the CA for a
certificate once in twelve hours may wait in a task.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final, Protocol

import trio

from meshproxy.wire.closing import linger, reset
from meshproxy.wire.tls import receive

if TYPE_CHECKING:
    import socket

    from meshproxy.wire.tls import TlsConnection

_PORTION: Final = 16 * 1024


class StreamBroken(Exception):
    """The connection ended, or is not to be trusted any more; the text is a phrase that says how."""


class Stream(Protocol):
    """What an exchange is carried out on; one of `close` and `abort` must follow."""

    async def send(self, content: bytes) -> None:
        """Send all of it. Raises StreamBroken."""

    async def receive(self) -> bytes:
        """Return what came, waiting for something; `b""` at the end. Raises StreamBroken."""

    async def close(self) -> None:
        """End properly."""

    def abort(self) -> None:
        """Break off: RST. After `close` it does nothing."""


class PlainStream:
    """One plain connection; not for two tasks at once. See `Stream`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __repr__(self) -> str:
        return f"<PlainStream {self._sock.fileno()}>"

    async def send(self, content: bytes) -> None:
        """See `Stream`."""
        waiting = memoryview(content)
        try:
            while waiting:
                try:
                    waiting = waiting[self._sock.send(waiting) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
        except OSError as error:
            raise StreamBroken(_words(error)) from error

    async def receive(self) -> bytes:
        """See `Stream`."""
        try:
            return await receive(self._sock, _PORTION)
        except OSError as error:
            raise StreamBroken(_words(error)) from error

    async def close(self) -> None:
        """See `Stream`."""
        await linger(self._sock)

    def abort(self) -> None:
        """See `Stream`."""
        reset(self._sock)


class TlsStream:
    """One connection whose handshake is over, and its socket: closed by `close` or `abort`, one of which must follow.

    Not for two tasks at once. Deadlines are the caller's (`trio.fail_after`).
    """

    def __init__(self, tls: TlsConnection) -> None:
        self._tls = tls
        self._clear = memoryview(bytearray(2 * _PORTION))  # what is decrypted of a portion is smaller than it

    def __repr__(self) -> str:
        return f"<TlsStream {self._tls!r}>"

    async def send(self, content: bytes) -> None:
        """Send all of it. Raises StreamBroken."""
        try:
            self._tls.session.write(content)
            await self._tls.flush()
        except (ssl.SSLError, OSError) as error:
            raise StreamBroken(_words(error)) from error

    async def receive(self) -> bytes:
        """Return what came, waiting for something; `b""` once the peer has said properly that there is no more.

        Raises StreamBroken; also when the connection ended without that, for what was said may then be half.
        """
        try:
            await self._tls.flush()  # a client's last flight waits for whoever goes on
            while True:
                count = self._tls.read_into(self._clear)
                if count:
                    return bytes(self._clear[:count])
                if self._tls.peer_has_ended:
                    return b""
                received = await receive(self._tls.sock, _PORTION)
                if not received:
                    raise StreamBroken("it was closed without a word")
                self._tls.incoming.write(received)
        except (ssl.SSLError, OSError) as error:
            self._tls.flush_alert()
            raise StreamBroken(_words(error)) from error

    async def close(self) -> None:
        """End properly: say so, and see that what was sent last arrives."""
        with contextlib.suppress(ssl.SSLError, OSError):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.session.unwrap()  # our close_notify; the peer's need not be waited for (RFC 8446 6.1)
            with trio.move_on_after(1.0):
                await self._tls.flush()
        await linger(self._tls.sock)

    def abort(self) -> None:
        """Break off: RST. After `close` it does nothing."""
        reset(self._tls.sock)


def _words(error: ssl.SSLError | OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "TLS failed").lower().replace("_", " ")
    return error.strerror or "connection lost"
