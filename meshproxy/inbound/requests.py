"""What an inbound HTTP connection lives through: handshake and leaf as in TCP mode, then each request is judged."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from meshproxy.errors import Failure
from meshproxy.http.head import HeadLimits
from meshproxy.http.kept import Memory
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Refusal, Terms
from meshproxy.inbound.admit import admit
from meshproxy.inbound.crowd import Crowd
from meshproxy.inbound.driver import HttpDriver
from meshproxy.inbound.edges import enter_inbound
from meshproxy.inbound.introduced import introduced, introduction
from meshproxy.inbound.live import Call, Live
from meshproxy.inbound.machinery import Outcome, clock
from meshproxy.inbound.story import Story
from meshproxy.inbound.unattended import Unattended
from meshproxy.upstream.connections import ServiceConnections
from meshproxy.upstream.pool import NEVER
from meshproxy.wire.channel import TlsChannel
from meshproxy.wire.ends import ConnectionEnd, End, PeerEof
from meshproxy.wire.fiber import in_task
from meshproxy.wire.relay import Term, Traffic
from meshproxy.wire.splice import Held

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from meshproxy.http.exchange import Exchange
    from meshproxy.http.head import RequestHead
    from meshproxy.http.terms import Judge
    from meshproxy.identity.sessions import Session
    from meshproxy.inbound.accept import Stay
    from meshproxy.inbound.admit import Guest
    from meshproxy.inbound.authorize import Authorizer
    from meshproxy.inbound.ledger import Ledger
    from meshproxy.inbound.machinery import Machinery
    from meshproxy.inbound.visit import Services, Visit
    from meshproxy.settings.schema import Inbound, Limits
    from meshproxy.upstream.pool import UpstreamConnection, Upstreams
    from meshproxy.wire.channel import Channel
    from meshproxy.wire.relay import Cut

_UNTOLD: Final = ConnectionEnd(End.DRAINED, None, "cut at the end of the drain")  # until we know better
_FOREVER: Final = float("inf")

# A connection too many is answered, and kept no longer than its caller takes to ask (seconds).
_TOO_MANY: Final = Refusal(Failure.PEER_LIMIT)
_HEARD_OUT: Final = 1.0

# Request and trace ids must not repeat; nothing secret hangs on them.
IDS = Random(secrets.randbits(128))  # noqa: S311 - see above


@dataclass(frozen=True, slots=True)
class Way:
    """How the requests of one listener travel: what drives them, where they go, who else is on the way, who tells."""

    machinery: Machinery
    upstreams: Upstreams
    live: Live
    ledger: Ledger


class RequestsHandler:
    """Handles the connections of one inbound HTTP listener."""

    def __init__(
        self,
        settings: Inbound,
        authorizer: Authorizer,
        services: Services,
        way: Way,
        crowd: Crowd | None = None,
    ) -> None:
        self._settings = settings
        self._authorizer = authorizer
        self._services = services
        self._way = way
        self._crowd = crowd or Crowd.of(settings.limits)
        self._limits = head_limits(settings.limits)
        self._memory = Memory(self._limits, host=None)
        self._sampling = None if services.tracer is None else services.tracer.sampling

    def __repr__(self) -> str:
        return f"<RequestsHandler {self._settings.name} -> {self._settings.forward}>"

    def _terms(self, judge: Judge) -> Terms:
        limits = self._settings.limits
        bounds = limits.max_body_bytes, limits.max_pipelined
        return Terms(self._limits, judge, IDS, None, self._memory, self._sampling, *bounds)

    async def __call__(self, sock: socket.socket, visit: Visit) -> None:
        """Serve one connection to its end."""
        services, settings = self._services, self._settings
        within, ends = settings.limits.handshake_timeout, None
        if settings.accept_proxy:
            came = await introduced(sock, visit, settings, services.recorder)
            within, ends = came.left, came.ends
        guest = await admit(sock, visit, services, within=within, alpn=settings.offered_alpn) if within else None
        if guest is None:
            return
        if settings.send_proxy:
            with self._introducing(introduction(sock, guest, ends)) as way:
                await self._serve(guest, visit, way)
        else:
            await self._serve(guest, visit, self._way)

    @contextlib.contextmanager
    def _introducing(self, first: bytes) -> Iterator[Way]:
        """Have a way of its own for one caller, whom each connection to the service introduces with these bytes."""
        upstreams = self._way.upstreams
        if not isinstance(upstreams, ServiceConnections):
            raise TypeError("an inbound listener leads to the own service")
        own = upstreams.beginning_with(first)
        try:
            yield replace(self._way, upstreams=own)
        finally:
            own.pool.close_all()

    async def _serve(self, guest: Guest, visit: Visit, way: Way) -> None:
        services, limits = self._services, self._settings.limits
        visit.caller = str(guest.leaf.id)
        enter_inbound(visit, self._settings, guest, services)
        judge = self._authorizer.judge_of(
            visit, guest.leaf, home=guest.home, wall=services.relay.wall, seconds=services.relay.seconds
        )
        downstream = TlsChannel(guest.tls, services.relay.engine, services.relay.buffers)
        with (
            services.identity.sessions.of(guest.peer, listener=visit.listener, connection=visit.id) as session,
            self._crowd.counted(guest, visit, services.recorder) as counted,
        ):
            judge = _refuse_for_now if counted.is_too_much else judge
            terms = self._terms(judge)
            await in_task()  # connections that are kept are not worth more
            await converse(
                downstream,
                HttpRelay(terms, clock()),
                Conversation(way, services, visit, Standing(guest, self._authorizer, session)),
                Term(limits.idle_timeout, guest.valid_until, limits.max_connection_age),
                hear_out=_HEARD_OUT if counted.is_too_much else None,
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """What an inbound connection lives by: its caller, who may be believed no more, and the allow-list."""

    guest: Guest
    authorizer: Authorizer
    session: Session

    def call(self, visit: Visit, head: RequestHead) -> Call:
        """Return the call to ask about on each change."""
        asked = (head.method.decode("ascii"), head.target.path.decode("ascii"))
        return Call(visit.id, self.guest.leaf.id, self.guest.home, asked)


class Conversation(msgspec.Struct, frozen=True):
    """What one HTTP connection needs of the house."""

    way: Way
    services: Services
    visit: Visit
    standing: Standing | None = None  # outbound: nobody decides


def _refuse_for_now(_head: RequestHead, _request_id: bytes) -> Refusal:
    """Refuse whatever is asked on a connection too many."""
    return _TOO_MANY


async def converse(
    downstream: Channel,
    relay: HttpRelay,
    conversation: Conversation,
    term: Term,
    *,
    hear_out: float | None = None,
) -> None:
    """Carry an HTTP connection of either direction to its end, and the stream it may be upgraded to.

    With `hear_out` it ends with its first answer, or without a question after so many seconds.
    """
    services = conversation.services
    driver = _driver_of(downstream, relay, conversation)
    if conversation.standing is not None:
        conversation.standing.session.ended_by(driver.revoke)
    is_bounded = term.valid_until is not NEVER  # outbound, most have no end to look for
    left = (term.valid_until - services.relay.wall()).total_seconds() if is_bounded else _FOREVER
    if hear_out is not None:
        driver.drain(hear_out)
    with conversation.way.live.holding(driver):
        outcome = await driver.run(valid_for=max(left, 0.0))
    await _follow(outcome, driver, conversation, term)


class TasklessConversation(Unattended):
    """As `converse`, for a connection that needs no task as long as its requests find an upstream connection at rest.

    To spawn a task, wake it once at the end and let it go is a third of what a caller costs who connects for each
    request. Only a dial, an upgrade or a bug needs one.
    """

    __slots__ = ("_conversation", "_driver", "_has_left", "_stay", "_term", "_was_told")

    def __init__(
        self, downstream: Channel, relay: HttpRelay, conversation: Conversation, term: Term, stay: Stay
    ) -> None:
        """`term` ends with no certificate."""
        self._conversation = conversation
        self._driver = _driver_of(downstream, relay, conversation)
        self._term = term
        self._stay = stay
        self._was_told = self._has_left = False

    def __repr__(self) -> str:
        return f"<TasklessConversation of {self._stay!r}>"

    def begin(self) -> None:
        """Begin; it leaves when it is over."""
        live = self._conversation.way.live
        self._stay.go_on_alone(self)
        live.join(self._driver)
        try:
            self._driver.begin(self._on_news, valid_for=_FOREVER)
        except BaseException:
            live.part(self._driver)
            raise

    def cut(self) -> None:
        """See `Unattended`."""
        self._leave(self._driver.cut)

    def _on_news(self) -> None:
        if self._was_told:
            return
        self._was_told = True
        if self._driver.is_over:
            # Behind the batch: it may hold an event of the very descriptor that is closed.
            self._conversation.services.relay.engine.afterwards(lambda: self._leave(self._driver.end))
        else:
            self._stay.attended_by(self._go_on)

    def _leave(self, end: Callable[[], None]) -> None:
        if self._has_left:
            return
        self._has_left = True
        self._conversation.way.live.part(self._driver)
        self._stay.left_alone(end)

    async def _go_on(self, _sock: socket.socket, _visit: Visit) -> None:
        try:
            outcome = await self._driver.attend()
        finally:
            self._conversation.way.live.part(self._driver)
        await _follow(outcome, self._driver, self._conversation, self._term)


def _driver_of(downstream: Channel, relay: HttpRelay, conversation: Conversation) -> HttpDriver:
    way = conversation.way
    return HttpDriver(way.machinery, downstream, relay, way.upstreams, Story(conversation.visit, way.ledger))


async def _follow(outcome: Outcome, driver: HttpDriver, conversation: Conversation, term: Term) -> None:
    """Carry the stream that the last exchange was upgraded to, if it was."""
    upstream, exchange = driver.upstream, driver.exchange
    if outcome is Outcome.UPGRADED and upstream is not None and exchange.head is not None:
        age = None if term.age is None else max(term.age - (trio.current_time() - conversation.visit.started), 0.0)
        term = Term(term.idle_timeout, min(term.valid_until, upstream.valid_until), age)
        await _carry_upgraded(Upgraded(driver.downstream, upstream, exchange), conversation, term)


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An exchange that has become a stream."""

    downstream: Channel
    upstream: UpstreamConnection
    exchange: Exchange


async def _carry_upgraded(stream: Upgraded, conversation: Conversation, term: Term) -> None:
    """Relay an upgraded stream to its end, as long as its request would be granted and both ends are believed."""
    services, visit, exchange = conversation.services, conversation.visit, stream.exchange
    ended = _UNTOLD
    traffic, inbound = Traffic(), visit.direction == "inbound"
    if visit.flow is not None:
        visit.flow.bytes_in += exchange.bytes_in
        visit.flow.bytes_out += exchange.bytes_out
        visit.stream = visit.flow.begin(traffic, inbound=inbound)
    try:
        with contextlib.ExitStack() as stack:
            call = None
            if conversation.standing is not None and exchange.head is not None:
                # Registered, then asked once more: the allow-list may have changed since the request was judged.
                call = stack.enter_context(
                    conversation.way.live.registered(conversation.standing.call(visit, exchange.head))
                )
                conversation.way.live.recheck_one(
                    call, conversation.standing.authorizer.objection(call, services.relay.wall())
                )

            def on_cut(cut: Cut) -> None:
                for session in (_session_of(conversation), stream.upstream.session):
                    if session is not None:
                        session.ended_by(lambda why: cut(ConnectionEnd(End.REVOKED, None, why)))
                if call is not None:
                    call.ended_by(cut)

            ended = await _splice(stream, services, term, traffic, on_cut)
    finally:
        if stream.upstream.session is not None:
            stream.upstream.session.leave()
        conversation.way.upstreams.pool.lent_has_ended()
        exchange.ended = clock()
        if visit.flow is not None and visit.stream is not None:
            visit.flow.end(visit.stream)
        exchange.bytes_in += traffic.to_plain if inbound else traffic.to_tls
        exchange.bytes_out += traffic.to_tls if inbound else traffic.to_plain
        Story(visit, conversation.way.ledger).upgraded(exchange, stream.upstream, ended)


def _session_of(conversation: Conversation) -> Session | None:
    return None if conversation.standing is None else conversation.standing.session


async def _splice(
    stream: Upgraded, services: Services, term: Term, traffic: Traffic, on_cut: Callable[[Cut], None]
) -> ConnectionEnd:
    plain, tls = stream.downstream, stream.upstream.channel
    if isinstance(plain, TlsChannel):
        plain, tls = tls, plain
    if not isinstance(tls, TlsChannel):
        raise TypeError("one side of every exchange is TLS")
    for channel in (plain, tls):
        services.relay.engine.forget(channel.sock)
    return await services.relay.run(
        plain.sock,
        tls.tls,
        peer_eof=PeerEof.STRICT,
        term=term,
        traffic=traffic,
        held=Held(plain.release(), tls.release()),
        on_cut=on_cut,
    )


def head_limits(limits: Limits) -> HeadLimits:
    """Return the limits of a head as the parser wants them."""
    return HeadLimits(limits.head_bytes, limits.max_fields, limits.target_bytes)
