"""A small HTTP/1.1 server for a few views and (on a unix socket) actions: h11, one task per connection, all bounded.

It answers whoever can reach it, so it listens locally. The Host header is checked because a browser on this machine can
be made to send requests here by any web page (DNS rebinding); such a request names the attacker's host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import h11
import trio

from meshproxy.wire.address import TcpAddress, UnixAddress, parse_address
from meshproxy.wire.closing import reset
from meshproxy.wire.listen import accept_forever

if TYPE_CHECKING:
    import socket

    from meshproxy.wire.address import Address

_MOST_CONNECTIONS = 64
_PATIENCE = 10.0
_CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its status code, media type, body, and header fields beyond the usual ones."""

    status: int
    content_type: str
    body: bytes
    more_headers: tuple[tuple[bytes, bytes], ...] = ()


class Upgrade(Protocol):
    """Another protocol, to which a connection is switched by a POST that asks for it (RFC 9110 section 7.8)."""

    @property
    def token(self) -> bytes:
        """What it is called in the Upgrade field."""

    def refusal(self, sock: socket.socket) -> str | None:
        """Why whoever is at the other end may not, in a sentence; None: he may."""

    async def attend(self, sock: socket.socket) -> None:
        """Speak it, from the first byte behind our 101 on; the socket is closed afterwards."""


View = Callable[[], Page | Awaitable[Page]]  # at once, or asked of others first
Action = Callable[[], Awaitable[Page]]


class AdminServer:
    """Serves `views` (path to function, by GET) and `actions` (by POST) on one listening socket.

    `address` is what the settings say; with `check_host` a request must name this machine or that address. Actions are
    there on a unix socket only: its file's mode says who may, while any local user, and any web page through a browser
    of this machine, can send a POST to a TCP port.
    """

    def __init__(
        self,
        listener: socket.socket,
        address: Address,
        views: Mapping[str, View],
        actions: Mapping[str, Action],
        *,
        check_host: bool,
        upgrades: Mapping[str, Upgrade] = MappingProxyType({}),
    ) -> None:
        self._listener = listener
        self._address = address
        self._views = views
        self._actions = actions if isinstance(address, UnixAddress) else {}
        self._upgrades = upgrades if isinstance(address, UnixAddress) else {}
        self.accepting = trio.CancelScope()  # cancelled when another process answers at this socket
        self._check_host = check_host and not isinstance(address, UnixAddress)
        self._open = 0

    def __repr__(self) -> str:
        return f"<AdminServer {self._address} open={self._open} views={sorted(self._views)}>"

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:

            def take(sock: socket.socket, _peer: str) -> None:
                if self._open >= _MOST_CONNECTIONS:
                    reset(sock)
                    return
                self._open += 1
                nursery.start_soon(self._serve, sock)

            with self.accepting:
                await accept_forever(self._listener, take, lambda _error: None)

    async def _serve(self, sock: socket.socket) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        try:
            with trio.fail_after(_PATIENCE):
                upgrade = await self._exchange(stream, sock)
            if upgrade is not None:
                await upgrade.attend(sock)
        except (trio.TooSlowError, trio.BrokenResourceError, h11.ProtocolError):
            pass  # whoever asks this way needs no answer
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _exchange(self, stream: trio.SocketStream, sock: socket.socket) -> Upgrade | None:
        """One request per connection: status pages need no keep-alive. Returns what it has been switched to."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_CHUNK)
        request = await _request(connection, stream)
        if request is None:
            return None
        upgrade = self._upgrades.get(_path(request.target)) if request.method == b"POST" else None
        if upgrade is not None:
            refusal = upgrade.refusal(sock) if _asks_for(upgrade, request) else _not_asked(upgrade)
            return await _switched(connection, stream, upgrade, refusal)
        host = dict(request.headers).get(b"host", b"")
        action = self.action(request.method, request.target)
        page = await self.answer(request.method, request.target, host) if action is None else await _done(action)
        out = _written(connection, page, with_body=request.method != b"HEAD")
        await stream.send_all(out)
        await stream.send_eof()
        return None

    def action(self, method: bytes, target: bytes) -> Action | None:
        """Return what a POST asks to be done, or None when it is nothing that may be asked here."""
        return self._actions.get(_path(target)) if method == b"POST" else None

    async def answer(self, method: bytes, target: bytes, host: bytes) -> Page:
        """Return the answer to a request that is no action: a view's, or a refusal."""
        if self._check_host and not names_this_machine(host, self._address):
            return _text(421, "the Host header must name this machine: localhost, or the admin address\n")
        path, reads = _path(target), method in {b"GET", b"HEAD"}
        if path in self._actions:
            return _not_allowed("only POST here\n", allow=b"POST")
        if not reads and (path in self._views or not self._actions):
            return _not_allowed(self._refusal_of_writes(), allow=b"GET, HEAD")
        view = self._views.get(path)
        if view is None:
            there = [*sorted(self._views), *(f"POST {action}" for action in sorted(self._actions))]
            return _text(404, f"there is: {' '.join(there)}\n")
        try:
            page = view()
            return page if isinstance(page, Page) else await page
        except Exception as error:  # noqa: BLE001 - a bug in a page must not end the sidecar
            return _internal_error(error)

    def _refusal_of_writes(self) -> str:
        if self._actions:
            return f"only GET here; POST does: {' '.join(sorted(self._actions))}\n"
        return 'only GET here; to change things give the admin API a unix socket: listen = "unix:..."\n'


def names_this_machine(host: bytes, address: Address) -> bool:
    """Whether a Host header names a loopback address, `localhost`, or the host the settings name (RFC 9110 7.2)."""
    text = host.decode("ascii", "replace")
    try:
        # The port is optional in a Host header, and behind a port forward it is not ours.
        named = parse_address(text if text.rpartition("]")[2].count(":") else f"{text}:80")
    except ValueError:
        return False
    if not isinstance(named, TcpAddress):
        return False
    return named.is_local or (isinstance(address, TcpAddress) and named.host.lower() == address.host.lower())


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await stream.receive_some(_CHUNK))


def _asks_for(upgrade: Upgrade, request: h11.Request) -> bool:
    """Whether the fields say so; Upgrade alone means nothing (RFC 9110 section 7.8)."""
    fields = dict(request.headers)
    options = fields.get(b"connection", b"").lower().split(b",")
    return fields.get(b"upgrade") == upgrade.token and b"upgrade" in map(bytes.strip, options)


def _not_asked(upgrade: Upgrade) -> str:
    return f"only with Connection: upgrade and Upgrade: {upgrade.token.decode()}\n"


async def _switched(
    connection: h11.Connection, stream: trio.SocketStream, upgrade: Upgrade, refusal: str | None
) -> Upgrade | None:
    """Switch protocols, or say why not."""
    connection.next_event()  # the end of the request: a body is none of this
    if refusal is not None:
        await stream.send_all(_written(connection, _text(403, refusal), with_body=True))
        await stream.send_eof()
        return None
    fields = [(b"connection", b"upgrade"), (b"upgrade", upgrade.token)]
    await stream.send_all(connection.send(h11.InformationalResponse(status_code=101, headers=fields)) or b"")
    return upgrade


def _written(connection: h11.Connection, page: Page, *, with_body: bool) -> bytes:
    headers = [
        (b"content-type", page.content_type.encode()),
        (b"content-length", str(len(page.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
        *page.more_headers,
    ]
    out = connection.send(h11.Response(status_code=page.status, headers=headers)) or b""
    if with_body:
        out += connection.send(h11.Data(data=page.body)) or b""
    return out


async def _done(action: Action) -> Page:
    try:
        return await action()
    except Exception as error:  # noqa: BLE001 - as with a page
        return _internal_error(error)


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("ascii", "replace")


def _internal_error(error: Exception) -> Page:
    return _text(500, f"internal error: {type(error).__name__}\n")


def _not_allowed(text: str, *, allow: bytes) -> Page:
    return _text(405, text, (b"allow", allow))  # RFC 9110 section 15.5.6: Allow is a MUST


def _text(status: int, text: str, *more_headers: tuple[bytes, bytes]) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode(), more_headers)
