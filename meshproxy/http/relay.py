"""The exchange as a sans-I/O machine: bytes from either side in; bytes for either side, and needs, out.

One machine lives as long as one downstream connection and carries its requests in turn (RFC 9112 section 9.3.2:
pipelined requests are answered in order). It decides; it never waits. Whoever drives it

* feeds it what came (`feed`, `feed_response`), and what did not (`timed_out`, `upstream_failed`, `upstream_ended`),
* sends what it finds in `to_downstream` and `to_upstream`,
* carries out `needs` in order: get an upstream connection, give it back, drop it, end the downstream.

Nothing of a request reaches an upstream before `judge` has granted it, and what reaches it is serialised anew from what
was judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from meshproxy.errors import Failure
from meshproxy.http import codec, fields, reply
from meshproxy.http.codec import Data, End, RequestReader, ResponseReader
from meshproxy.http.exchange import Decided, Exchange
from meshproxy.http.head import CHUNKED, UNTIL_CLOSE, BadMessage, FramingKind, RequestHead, ResponseHead, Version

if TYPE_CHECKING:
    from meshproxy.http.fields import RandomSource
    from meshproxy.http.head import Framing, HeadLimits

# RFC 9110 section 9.2.1: nothing happens twice if such a request is sent twice.
_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

# An upstream may send interim answers for as long as it likes; a hostile one would for ever.
_MOST_INTERIM = 32

# A refused request's body is read and thrown away up to here, so that the connection can go on.
_MOST_DISCARDED = 64 * 1024

_BY_STATUS = {
    405: Failure.METHOD_REFUSED,
    414: Failure.TARGET_TOO_LONG,
    417: Failure.EXPECTATION,
    431: Failure.HEAD_TOO_LARGE,
    501: Failure.NOT_IMPLEMENTED,
    505: Failure.VERSION_REFUSED,
}


class Phase(Enum):
    """Where the machine stands; the driver's deadlines are a table over these."""

    IDLE = auto()  # between requests: nothing of the next one has come
    HEAD = auto()  # part of a head has come
    CONNECTING = auto()  # granted, and waiting for an upstream connection
    BODY = auto()  # the request's body is on its way, and no answer yet
    AWAITING = auto()  # the request is complete, and no answer yet
    ANSWERING = auto()  # the answer is on its way
    DISCARDING = auto()  # refused: the rest of the body is thrown away
    UPGRADED = auto()  # no longer ours
    OVER = auto()  # the downstream is to be ended


class Need(Enum):
    """What the driver is to do, in order, after sending what there is to send."""

    UPSTREAM = auto()  # get a connection and `attach` it, or say `upstream_failed`
    FRESH_UPSTREAM = auto()  # the same, but not one from the pool
    RELEASE_UPSTREAM = auto()  # it is clean: the pool may have it
    DROP_UPSTREAM = auto()  # close it
    UPGRADE = auto()  # from here on bytes are only moved
    CLOSE = auto()  # end the downstream so that the last answer arrives
    ABORT = auto()  # reset the downstream: its answer is incomplete, and must not look complete


@dataclass(frozen=True, slots=True)
class Grant:
    """The request may go on; `client_id` is what the service is told about its caller (None: nothing)."""

    client_id: bytes | None = None
    decided: Decided | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request may not go on."""

    failure: Failure = Failure.DENIED
    decided: Decided | None = None


Judge = Callable[[RequestHead], Grant | Refusal]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all exchanges of a listener; `host` replaces the Host field (None: as received)."""

    limits: HeadLimits
    judge: Judge
    rng: RandomSource
    host: bytes | None = None


class HttpRelay:
    """See the module. `now` is seconds of any monotonic clock."""

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self._requests = RequestReader(terms.limits)
        self._responses: ResponseReader | None = None
        self._phase = Phase.IDLE
        self._head: RequestHead | None = None
        self._request_bytes = b""
        self._request_done = True
        self._response_head: ResponseHead | None = None
        self._response_chunked = False
        self._interim = 0
        self._discarded = 0
        self._close = False
        self._reused = False
        self._client_ended = False
        self.draining = False
        self.exchange = Exchange(now)
        self.finished: list[Exchange] = []
        self.to_downstream: list[bytes] = []
        self.to_upstream: list[bytes] = []
        self.needs: deque[Need] = deque()

    def __repr__(self) -> str:
        return (
            f"<HttpRelay {self._phase.name} request_done={self._request_done}"
            f" answered={self._response_head is not None} close={self._close} needs={[n.name for n in self.needs]}>"
        )

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return self._phase

    @property
    def wants_downstream(self) -> bool:
        """Whether downstream bytes are of use now; otherwise leave them in the socket."""
        if self._phase in {Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.DISCARDING}:
            return True
        return self._phase is Phase.ANSWERING and not self._request_done

    # Downstream.

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the caller."""
        self._requests.feed(data)
        self._advance(now)

    def downstream_ended(self, now: float) -> None:
        """Take the caller's end of stream: it may still wait for an answer to a complete request (half-close)."""
        self._client_ended = True
        if self._phase is Phase.IDLE:
            self._over(Need.CLOSE)
        elif self._phase is Phase.HEAD or not self._request_done:
            self.downstream_lost("the caller ended in the middle of its request", now)

    def downstream_lost(self, detail: str, now: float) -> None:
        """Take that the caller is gone: a half-sent request must not be completed upstream."""
        if self._phase in {Phase.OVER, Phase.UPGRADED}:
            return
        if self._phase is not Phase.IDLE:
            self._fail_exchange(Failure.CLIENT_GONE, detail)
            self._end_exchange(now)
        self._drop_upstream()
        self._over(Need.ABORT)

    def _advance(self, now: float) -> None:
        """Make of the bytes that have come whatever can be made of them now."""
        try:
            while self._step(now):
                pass
        except BadMessage as bad:
            self._refuse_message(bad, now)

    def _step(self, now: float) -> bool:
        if self._phase in {Phase.IDLE, Phase.HEAD}:
            head = self._requests.next()
            if isinstance(head, RequestHead):
                self._begin(head, now)
                return True
            if self._phase is Phase.IDLE and self._requests.buffered:
                self._phase = Phase.HEAD
                self.exchange = Exchange(now)
            return False
        if self._request_done or self._phase not in {Phase.BODY, Phase.ANSWERING, Phase.DISCARDING}:
            return False
        event = self._requests.next()
        if event is None:
            return False
        if self._phase is Phase.DISCARDING:
            return self._discard(event, now)
        self._carry(event)
        return True

    def _begin(self, head: RequestHead, now: float) -> None:
        terms = self._terms
        exchange = self.exchange if self._phase is Phase.HEAD else Exchange(now)
        self.exchange, self._head = exchange, head
        exchange.head = head
        exchange.request_id = fields.read_request_id(head.fields) or fields.new_request_id(terms.rng)
        traceparent = fields.read_traceparent(head.fields) or fields.new_traceparent(terms.rng)
        exchange.trace_id = fields.trace_id(traceparent)
        self._request_done = head.framing.kind is FramingKind.NONE
        if self._request_done:
            self._requests.next()  # its End
        self._response_head, self._interim, self._discarded = None, 0, 0
        self._close = not head.keep_alive or head.version is Version.HTTP_1_0 or self.draining
        verdict = terms.judge(head)
        exchange.decided = verdict.decided
        if isinstance(verdict, Refusal):
            self._answer(verdict.failure, "", now)
            return
        outgoing = fields.outgoing_request(
            head,
            client_id=verdict.client_id,
            request_id=exchange.request_id,
            traceparent=traceparent,
            host=terms.host,
        )
        self._request_bytes = codec.request_bytes(head.method, head.target.as_origin_form(), outgoing)
        self._phase = Phase.CONNECTING
        self.needs.append(Need.UPSTREAM)

    def _carry(self, event: Data | End | RequestHead) -> None:
        """Pass a piece of the request's body on, framed anew."""
        if self._head is None:
            raise AssertionError("a body has a head")
        chunked = self._head.framing.kind is FramingKind.CHUNKED
        if isinstance(event, Data):
            self.exchange.bytes_in += len(event.payload)
            self.to_upstream.append(codec.chunk(event.payload) if chunked else event.payload)
        elif isinstance(event, End):
            if chunked:
                self.to_upstream.append(codec.last_chunk(fields.outgoing_trailers(event.trailers)))
            self._request_done = True
            if self._phase is Phase.BODY:
                self._phase = Phase.AWAITING

    def _discard(self, event: Data | End | RequestHead, now: float) -> bool:
        if isinstance(event, End):
            self._request_done = True
            self._finish(now)
            return True
        if isinstance(event, Data):
            self._discarded += len(event.payload)
        if self._discarded > _MOST_DISCARDED:
            self._end_exchange(now)
            self._over(Need.CLOSE)
            return False
        return True

    def _refuse_message(self, bad: BadMessage, now: float) -> None:
        """Answer what is not acceptable HTTP and end the connection: where the next message begins is unknown."""
        self._close = True
        self._request_done = True
        if self._phase in {Phase.IDLE, Phase.HEAD}:
            self.exchange = self.exchange if self._phase is Phase.HEAD else Exchange(now)
            self.exchange.request_id = fields.new_request_id(self._terms.rng)
            self._head = self._response_head = None
        self._drop_upstream()
        self._answer(_BY_STATUS.get(bad.status, Failure.BAD_REQUEST), bad.detail, now)

    # Upstream.

    def attach(self, responses: ResponseReader, now: float, *, reused: bool) -> None:
        """Take an upstream connection; `reused` when it has carried an exchange before."""
        if self._phase is not Phase.CONNECTING or self._head is None:
            raise AssertionError("nobody asked for an upstream")
        self._responses, self._reused = responses, reused
        responses.expect(self._head.method)
        self.exchange.upstream_asked = now
        self.to_upstream.append(self._request_bytes)
        self._phase = Phase.AWAITING if self._request_done else Phase.BODY
        self._advance(now)

    def upstream_failed(self, failure: Failure, detail: str, now: float) -> None:
        """Take that no upstream connection could be had."""
        if self._phase is Phase.CONNECTING:
            self._answer(failure, detail, now)
            self._advance(now)

    def feed_response(self, data: bytes, now: float) -> None:
        """Take bytes from the upstream; judged as strictly as the caller's."""
        responses = self._responses
        if responses is None:
            return
        responses.feed(data)
        self._read_response(responses, now)
        self._advance(now)

    def upstream_ended(self, now: float, *, clean: bool) -> None:
        """Take the upstream's end of stream; `clean` unless anybody on the path could have sent it."""
        responses = self._responses
        if responses is None:
            return
        if clean or not self._is_close_delimited():
            try:
                responses.eof()
            except BadMessage:
                self.upstream_lost("the upstream ended in the middle of its answer", now)
            else:
                self._read_response(responses, now)
                if self._responses is responses:  # it ended before any answer
                    self.upstream_lost("the upstream closed without an answer", now)
                self._advance(now)
        else:
            self.upstream_lost("the upstream ended an answer of unknown length without close_notify", now)

    def upstream_lost(self, detail: str, now: float) -> None:
        """Take that the upstream connection broke."""
        responses = self._responses
        if responses is None:
            return
        nothing_came = self._response_head is None and not self._interim and not responses.buffered
        self._drop_upstream()
        if nothing_came and self._may_resend():
            self.exchange.resent = True
            self._phase = Phase.CONNECTING
            self.needs.append(Need.FRESH_UPSTREAM)
        elif self._response_head is None:
            self._answer(Failure.UPSTREAM_CLOSED, detail, now)
        else:
            self._cut(Failure.RESPONSE_TRUNCATED, detail, now)

    def _may_resend(self) -> bool:
        """Whether a pooled connection that broke may be the pool's fault: one resend, of what can be sent twice."""
        head = self._head
        return (
            self._reused
            and not self.exchange.resent
            and head is not None
            and head.method in _SAFE_METHODS
            and head.framing.kind is FramingKind.NONE
        )

    def _is_close_delimited(self) -> bool:
        head = self._response_head
        return head is not None and head.framing.kind is FramingKind.UNTIL_CLOSE

    def _read_response(self, responses: ResponseReader, now: float) -> None:
        try:
            while self._responses is responses:
                event = responses.next()
                if event is None:
                    return
                if isinstance(event, ResponseHead):
                    self._on_response_head(event, now)
                else:
                    self._on_response_body(event, now)
        except BadMessage as bad:
            self._drop_upstream()
            if self._response_head is None:
                self._answer(Failure.UPSTREAM_PROTOCOL, bad.detail, now)
            else:
                self._cut(Failure.RESPONSE_TRUNCATED, bad.detail, now)

    def _on_response_head(self, head: ResponseHead, now: float) -> None:
        request = self._head
        if request is None:
            raise AssertionError("an answer has a request")
        if head.status == 101:  # Switching Protocols
            self._upgrade(head, request, now)
            return
        if head.status < 200:  # interim, RFC 9110 section 15.2
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise BadMessage(502, "the upstream sends interim answers without end")
            if request.version is not Version.HTTP_1_0:
                self.to_downstream.append(codec.response_bytes(head.status, head.reason, fields.outgoing_interim(head)))
            return
        self._response_head = head
        self.exchange.status, self.exchange.answered = head.status, now
        # An answer before the end of its request: whether the caller will send the rest is not known.
        self._close = self._close or self.draining or not self._request_done
        until_close = head.framing.kind is FramingKind.UNTIL_CLOSE
        self._response_chunked = request.version is not Version.HTTP_1_0 and (
            until_close or head.framing.kind is FramingKind.CHUNKED
        )
        outgoing = fields.outgoing_response(
            head, framing=self._downstream_framing(head), close=self._close, request_id=self.exchange.request_id
        )
        self.to_downstream.append(codec.response_bytes(head.status, head.reason, outgoing))
        self._phase = Phase.ANSWERING

    def _downstream_framing(self, head: ResponseHead) -> Framing:
        if head.framing.kind in {FramingKind.CHUNKED, FramingKind.UNTIL_CLOSE}:
            return CHUNKED if self._response_chunked else UNTIL_CLOSE
        return head.framing

    def _on_response_body(self, event: Data | End, now: float) -> None:
        if isinstance(event, Data):
            self.exchange.bytes_out += len(event.payload)
            self.to_downstream.append(codec.chunk(event.payload) if self._response_chunked else event.payload)
            return
        if self._response_chunked:
            self.to_downstream.append(codec.last_chunk(fields.outgoing_trailers(event.trailers)))
        self._let_go_of_upstream()
        self._finish(now)

    def _let_go_of_upstream(self) -> None:
        responses, head = self._responses, self._response_head
        clean = (
            responses is not None
            and head is not None
            and self._request_done
            and head.keep_alive
            and not responses.buffered  # what comes unasked belongs to nobody
        )
        self._responses = None
        self.needs.append(Need.RELEASE_UPSTREAM if clean else Need.DROP_UPSTREAM)

    def _upgrade(self, head: ResponseHead, request: RequestHead, now: float) -> None:
        if request.upgrade is None or not self._request_done:
            raise BadMessage(502, "the upstream switches protocols unasked")
        outgoing = fields.outgoing_upgrade(head, request_id=self.exchange.request_id)
        self.to_downstream.append(codec.response_bytes(head.status, head.reason, outgoing))
        self.exchange.status, self.exchange.answered, self.exchange.upgraded = head.status, now, True
        responses, self._responses = self._responses, None
        if responses is not None:
            self.to_downstream.append(responses.take_rest())
        self.to_upstream.append(self._requests.take_rest())
        self._phase = Phase.UPGRADED
        self.needs.append(Need.UPGRADE)

    # Ends.

    def timed_out(self, now: float) -> None:
        """Take that the current phase has lasted too long; what follows depends on the phase."""
        if self._phase is Phase.IDLE:
            self._over(Need.CLOSE)
        elif self._phase is Phase.CONNECTING:
            self._answer(Failure.CONNECT_TIMEOUT, "no upstream connection in time", now)
        elif self._phase is Phase.AWAITING:
            self._drop_upstream()
            self._answer(Failure.RESPONSE_TIMEOUT, "no answer in time", now)
        elif self._phase is Phase.ANSWERING:
            self._drop_upstream()
            self._cut(Failure.RESPONSE_TRUNCATED, "the answer stopped moving", now)
        elif self._phase in {Phase.HEAD, Phase.BODY, Phase.DISCARDING}:
            self._close, self._request_done = True, True
            self._drop_upstream()
            if self._phase is Phase.DISCARDING:
                self._end_exchange(now)
                self._over(Need.CLOSE)
            else:
                if self._phase is Phase.HEAD:
                    self.exchange.request_id = fields.new_request_id(self._terms.rng)
                    self._head = self._response_head = None
                self._answer(Failure.REQUEST_TIMEOUT, "the request stopped moving", now)

    def drain(self) -> None:
        """Take that the sidecar is going away: the connection ends with its current answer, or its next."""
        self.draining = True

    def _answer(self, failure: Failure, detail: str, now: float) -> None:
        """Reply ourselves; if the service's answer has begun, cut it instead."""
        self._drop_upstream()
        if self._response_head is not None:
            self._cut(failure, detail, now)
            return
        self._fail_exchange(failure, detail)
        self.exchange.status, self.exchange.answered = failure.status, now
        head = self._head
        # Who waits for 100 Continue may or may not send its body now; the connection cannot go on.
        if not self._request_done and head is not None and head.expects_continue:
            self._close = True
        self.to_downstream.append(
            reply.problem(
                failure.status,
                title=failure.title,
                request_id=self.exchange.request_id,
                error_token=failure.token,
                close=self._close,
                with_body=head is None or head.method != b"HEAD",
            )
        )
        if self._request_done or self._close:
            self._finish(now)
        else:
            self._phase = Phase.DISCARDING

    def _cut(self, failure: Failure, detail: str, now: float) -> None:
        self._fail_exchange(failure, detail)
        self._end_exchange(now)
        self._over(Need.ABORT)

    def _fail_exchange(self, failure: Failure, detail: str) -> None:
        if self.exchange.failure is None:
            self.exchange.failure, self.exchange.detail = failure, detail

    def _finish(self, now: float) -> None:
        """The answer is complete: go on with the next request, or end."""
        self._end_exchange(now)
        if self._close or self._client_ended:
            self._over(Need.CLOSE)
            return
        self._phase = Phase.IDLE
        self._head = self._response_head = None

    def _end_exchange(self, now: float) -> None:
        self.exchange.ended = now
        self.finished.append(self.exchange)

    def _drop_upstream(self) -> None:
        if self._responses is not None:
            self._responses = None
            self.needs.append(Need.DROP_UPSTREAM)
        self.to_upstream.clear()

    def _over(self, how: Need) -> None:
        self._phase = Phase.OVER
        self.needs.append(how)
