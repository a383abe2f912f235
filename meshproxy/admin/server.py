"""A small HTTP/1.1 server for views and (on a unix socket) actions: h11, one task per connection, all bounded.

It answers whoever can reach it, so it listens locally. The Host header is checked because a browser on this machine can
be made to send requests here by any web page (DNS rebinding); such a request names the attacker's host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import h11
import trio

from meshproxy.admin.answers import Asked, Inquiry, Order, Page, Stream, text_page
from meshproxy.admin.feed import FellBehind
from meshproxy.admin.questions import BadQuestion, Query
from meshproxy.admin.turns import Turns
from meshproxy.wire.address import TcpAddress, UnixAddress, parse_address
from meshproxy.wire.closing import reset
from meshproxy.wire.listen import accept_forever
from meshproxy.wire.spare import Spares

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from meshproxy.admin.answers import Action, Answer, View
    from meshproxy.wire.address import Address

_MOST_CONNECTIONS = 64
_SPARES = 4  # of these it answers at once when there is no descriptor left
_PATIENCE = 10.0
_CHUNK = 16 * 1024


@dataclass(slots=True, eq=False)
class _Caller:
    """A connection, and whether it still has to say what it wants."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_asking: bool = True


class Upgrade(Protocol):
    """Another protocol, to which a connection is switched by a POST that asks for it (RFC 9110 section 7.8)."""

    @property
    def token(self) -> bytes:
        """What it is called in the Upgrade field."""

    def refusal(self, sock: socket.socket) -> str | None:
        """Why whoever is at the other end may not, in a sentence; None: he may."""

    async def attend(self, sock: socket.socket) -> None:
        """Speak it, from the first byte behind our 101 on; the socket is closed afterwards."""


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
        views: Mapping[str, View | Inquiry],
        actions: Mapping[str, Action | Order],
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
        self._open: dict[_Caller, None] = {}  # in the order in which they came
        self._spares = Spares(_SPARES)
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"<AdminServer {self._address} open={len(self._open)} views={sorted(self._views)}>"

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:

                def take(sock: socket.socket, _peer: str) -> None:
                    if len(self._open) >= _MOST_CONNECTIONS and not self._make_room():
                        reset(sock)
                        return
                    caller = _Caller()
                    self._open[caller] = None
                    nursery.start_soon(self._serve, sock, caller)

                with self.accepting:
                    await accept_forever(self._listener, take, lambda _error: None, spares=self._spares)
        finally:
            self._spares.close()

    def _make_room(self) -> bool:
        """Let go of who has been asking for longest; returns whether there was one.

        Whoever connects and says nothing must not keep out who wants to know how it is.
        """
        for caller in self._open:
            if caller.is_asking:
                caller.scope.cancel()
                del self._open[caller]
                return True
        return False

    async def _serve(self, sock: socket.socket, caller: _Caller) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        try:
            with caller.scope:
                upgrade = await self._exchange(stream, sock, caller)
                if upgrade is not None:
                    await upgrade.attend(sock)
        except* (trio.TooSlowError, trio.BrokenResourceError, h11.ProtocolError, FellBehind):
            pass  # whoever asks this way needs no answer
        except* Exception:  # noqa: BLE001, S110 - a bug in a stream ends it before its end, and not the sidecar
            pass
        finally:
            self._open.pop(caller, None)
            await trio.aclose_forcefully(stream)
            self._spares.restock()

    async def _exchange(self, stream: trio.SocketStream, sock: socket.socket, caller: _Caller) -> Upgrade | None:
        """One request per connection: status pages need no keep-alive. Returns what it has been switched to."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_CHUNK)
        with trio.fail_after(_PATIENCE):
            request = await _request(connection, stream, self._turns)
            if request is None:
                return None
            caller.is_asking = False
            if request.method == b"POST" and (upgrade := self._upgrades.get(_path(request.target))) is not None:
                refusal = upgrade.refusal(sock) if _asks_for(upgrade, request) else _not_asked(upgrade)
                return await _switched(connection, stream, upgrade, refusal)
            answer = await self._answer_to(request)
        wants_body = request.method != b"HEAD"
        if isinstance(answer, Page):
            with trio.fail_after(_PATIENCE):
                await stream.send_all(_written(connection, answer, with_body=wants_body))
        else:
            await _pour(connection, stream, answer, wants_body=wants_body)
        await stream.send_eof()
        return None

    async def _answer_to(self, request: h11.Request) -> Answer:
        fields = dict(request.headers)
        action = self.action(request.method, request.target)
        if action is None:
            return await self.answer(request.method, request.target, fields.get(b"host", b""), fields)
        if b"origin" in fields:
            return text_page(403, "no web page may ask for this: the request has an Origin\n")
        try:
            return await (action.act(_asked(request.target, fields)) if isinstance(action, Order) else action())
        except BadQuestion as bad:
            return _refusal(bad)
        except Exception as error:  # noqa: BLE001 - as with a page
            return _internal_error(error)

    def action(self, method: bytes, target: bytes) -> Action | Order | None:
        """Return what a POST asks to be done, or None when it is nothing that may be asked here."""
        return self._actions.get(_path(target)) if method == b"POST" else None

    async def answer(
        self, method: bytes, target: bytes, host: bytes, fields: Mapping[bytes, bytes] | None = None
    ) -> Answer:
        """Return the answer to a request that is no action: a view's, or a refusal."""
        if self._check_host and not names_this_machine(host, self._address):
            return text_page(421, "the Host header must name this machine: localhost, or the admin address\n")
        path, reads = _path(target), method in {b"GET", b"HEAD"}
        if path in self._actions:
            return _not_allowed("only POST here\n", allow=b"POST")
        if not reads and (path in self._views or not self._actions):
            return _not_allowed(self._refusal_of_writes(), allow=b"GET, HEAD")
        view = self._views.get(path)
        if view is None:
            there = [
                *sorted(path for path in self._views if path.count("/") == 1),
                *(f"POST {action}" for action in sorted(self._actions)),
            ]
            return text_page(404, f"there is: {' '.join(there)}\n")
        return await _shown(view, target, fields or {}, self._turns)

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


async def _shown(view: View | Inquiry, target: bytes, fields: Mapping[bytes, bytes], turns: Turns) -> Answer:
    try:
        answer = await turns.do(lambda: view.answer(_asked(target, fields)) if isinstance(view, Inquiry) else view())
        return answer if isinstance(answer, Page | Stream) else await answer
    except BadQuestion as bad:
        return _refusal(bad)
    except Exception as error:  # noqa: BLE001 - a bug in a page must not end the sidecar
        return _internal_error(error)


async def _request(connection: h11.Connection, stream: trio.SocketStream, turns: Turns) -> h11.Request | None:
    while True:
        received = await stream.receive_some(_CHUNK)
        connection.receive_data(received)
        event = await turns.do(connection.next_event)
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None


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
        await stream.send_all(_written(connection, text_page(403, refusal), with_body=True))
        await stream.send_eof()
        return None
    fields = [(b"connection", b"upgrade"), (b"upgrade", upgrade.token)]
    await stream.send_all(connection.send(h11.InformationalResponse(status_code=101, headers=fields)) or b"")
    return upgrade


def _written(connection: h11.Connection, page: Page, *, with_body: bool) -> bytes:
    out = connection.send(_response(page.status, page.content_type, len(page.body), page.more_headers)) or b""
    if with_body:
        out += connection.send(h11.Data(data=page.body)) or b""
    return out


async def _pour(connection: h11.Connection, stream: trio.SocketStream, answer: Stream, *, wants_body: bool) -> None:
    """Send a stream to its end; whoever does not read a part of it in time is let go."""

    async def say(event: h11.Event) -> None:
        with trio.fail_after(_PATIENCE):
            await stream.send_all(connection.send(event) or b"")

    async def send(part: bytes) -> None:
        await say(h11.Data(data=part))

    head = _response(200, answer.content_type, None, ())
    await say(head)
    if not wants_body:
        return
    if not answer.is_endless:
        await answer.pour(send)
        await say(h11.EndOfMessage())
        return
    async with trio.open_nursery() as nursery:

        async def end_with_the_reader() -> None:
            """Listen for his end: who has gone must not keep a place until something happens."""
            while await stream.receive_some(_CHUNK):
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(end_with_the_reader)
        await answer.pour(send)


def _response(
    status: int, content_type: str, length: int | None, more: tuple[tuple[bytes, bytes], ...]
) -> h11.Response:
    sized = [] if length is None else [(b"content-length", b"%d" % length)]  # else h11 sends it in chunks
    headers = [
        (b"content-type", content_type.encode()),
        *sized,
        *([] if any(name == b"cache-control" for name, _ in more) else [(b"cache-control", b"no-store")]),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
        *more,
    ]
    return h11.Response(status_code=status, headers=headers)


def _asked(target: bytes, fields: Mapping[bytes, bytes]) -> Asked:
    return Asked(Query(target.partition(b"?")[2]), dict(fields))


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("ascii", "replace")


def _refusal(bad: BadQuestion) -> Page:
    return text_page(400, f"{bad}\n")


def _internal_error(error: Exception) -> Page:
    return text_page(500, f"internal error: {type(error).__name__}\n")


def _not_allowed(text: str, *, allow: bytes) -> Page:
    return text_page(405, text, (b"allow", allow))  # RFC 9110 section 15.5.6: Allow is a MUST
