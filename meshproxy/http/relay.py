"""The exchange as a sans-I/O machine: bytes from either side in; bytes for either side, and needs, out.

One machine lives as long as one downstream connection and carries its requests in turn (RFC 9112 section 9.3.2:
pipelined requests are answered in order). It decides; it never waits. Whoever drives it

* feeds it what came (`feed`, `feed_response`), and what did not (`timed_out`, `upstream_failed`, `upstream_ended`),
* sends what it finds in `to_downstream` and `to_upstream`,
* carries out `needs` in order: get an upstream connection, give it back, drop it, end the downstream,
* calls `proceed` while requests are `held_back`, once the caller has taken the answers before them.

Nothing of a request reaches an upstream before `judge` has granted it, and what reaches it is serialised anew from what
was judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.errors import Failure
from meshproxy.http.endings import MOST_DISCARDED, Endings
from meshproxy.http.exchange import Exchange
from meshproxy.http.forwarded import ForwardedAnswer, can_be_sent_again, write_piece
from meshproxy.http.head import BadMessage, FramingKind, RequestHead, ResponseHead, Version
from meshproxy.http.phase import Need, Phase
from meshproxy.http.terms import Refusal
from meshproxy.http.trace_context import LAST_FLAG, SAMPLED, TRACE_ID, ids_for, trace_of

if TYPE_CHECKING:
    from meshproxy.http.codec import Piece, ResponseReader

# From here on no further request is begun until the caller takes what it was answered (bytes): answers of our own cost
# the caller a few bytes each, so whoever asks and never reads would fill our memory, and one batch our time.
_MOST_UNSENT: Final = 16 * 1024

# Whose time has run out, and what the caller is told. After the first two nobody knows where its next request begins.
_OVERDUE: Final = {
    Phase.HEAD: (Failure.REQUEST_TIMEOUT, "the request head did not come in time"),
    Phase.BODY: (Failure.REQUEST_TIMEOUT, "the request body stopped moving"),
    Phase.CONNECTING: (Failure.CONNECT_TIMEOUT, "no upstream connection in time"),
    Phase.EXPECTING: (Failure.RESPONSE_TIMEOUT, "neither 100 Continue nor an answer in time"),
    Phase.AWAITING: (Failure.RESPONSE_TIMEOUT, "no answer in time"),
}


# Bound once: to look a member up in its class takes ten times as long on Python 3.11, and each message asks often.
_IDLE: Final = Phase.IDLE
_HEAD: Final = Phase.HEAD
_CONNECTING: Final = Phase.CONNECTING
_EXPECTING: Final = Phase.EXPECTING
_BODY: Final = Phase.BODY
_AWAITING: Final = Phase.AWAITING
_ANSWERING: Final = Phase.ANSWERING
_DISCARDING: Final = Phase.DISCARDING
_UPGRADED: Final = Phase.UPGRADED
_OVER: Final = Phase.OVER
_NO_BODY: Final = FramingKind.NONE
_LENGTH: Final = FramingKind.LENGTH
_CHUNKED: Final = FramingKind.CHUNKED
_OLD: Final = Version.HTTP_1_0
_UPSTREAM: Final = Need.UPSTREAM
_RELEASE_UPSTREAM: Final = Need.RELEASE_UPSTREAM


class HttpRelay(Endings):
    """See the module. `now` is seconds of any monotonic clock; `phase` tells where it stands."""

    @property
    def wants_downstream(self) -> bool:
        """Whether downstream bytes are of use now; otherwise leave them in the socket."""
        phase = self.phase
        if self._caller_ended:
            return False
        if phase is _IDLE:
            return not self._requests.buffered
        if phase is _ANSWERING:
            return not self._request_done
        return phase is _HEAD or phase is _BODY or phase is _EXPECTING or phase is _DISCARDING

    @property
    def held_back(self) -> bool:
        """Whether bytes of further requests wait here until the caller has taken its answers."""
        return self.phase is _IDLE and self._requests.buffered > 0

    def rests(self) -> bool:
        """Whether nothing is going on, and nothing waits here: what the caller says next begins a request.

        No property, for each event asks: Python 3.11 calls a method in a third of the time.
        """
        return self.phase is _IDLE and not self._requests.buffered and not self._caller_ended

    # The caller's side.

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the caller."""
        if self.take_request(data, now):
            self.needs.append(_UPSTREAM)

    def take_request(self, data: bytes, now: float) -> bool:
        """As `feed`; True if that was one whole request that was granted, and `ask` is all it needs.

        That need is not among the `needs`, for mostly it can be met at once.
        """
        requests = self._requests
        is_at_rest = self.phase is _IDLE and not self.to_downstream and not requests.buffered
        found = self._memory.from_caller.recognise(data) if is_at_rest else None
        if found is None:
            self._in_a_row = -1 if is_at_rest else self._in_a_row  # the next one lies behind no other
            requests.feed(data)
            self._advance(now)
            return False
        head, end = found
        if end == len(data) and head.fields.framing.kind is _NO_BODY:
            requests.take_whole(head)
            return self._begin(head, now)
        requests.begin(head, data, end)
        self._in_a_row = 0
        if self._begin(head, now):
            self.needs.append(_UPSTREAM)
        if requests.buffered:
            self._advance(now)
        return False

    def pass_request(self, size: int) -> bool:
        """Take that so many bytes of the request's body have come and go to the upstream as they are.

        False if they are to be fed: there is more to do about them than to count them.
        """
        if self.phase is not _BODY or self.to_upstream or not self._requests.pass_by(size):
            return False
        self.exchange.bytes_in += size
        return True

    def proceed(self, now: float) -> None:
        """Go on with requests that were held back: what was in `to_downstream` has been taken."""
        self._advance(now)

    def downstream_ended(self, now: float) -> None:
        """Take the caller's end of stream: it may still wait for the answers to what it has asked (half-close)."""
        self._caller_ended = True
        self._advance(now)

    def _advance(self, now: float) -> None:
        """Make of the bytes that have come whatever can be made of them now."""
        if self._requests.buffered or not self._request_done:
            try:
                self._take_requests(now)
            except BadMessage as bad:
                self._refuse_message(bad, now)
        if self._caller_ended:
            self._follow_caller(now)

    def _take_requests(self, now: float) -> None:
        """Take what the caller said, one thing after the other; raises BadMessage."""
        while True:
            phase = self.phase
            if phase is _IDLE or phase is _HEAD:
                if not self._take_head(now):
                    return
                continue
            if self._request_done or phase is _CONNECTING or phase is _UPGRADED or phase is _OVER:
                return
            piece = self._requests.next()
            if piece is None or isinstance(piece, RequestHead):
                return
            if phase is _DISCARDING:
                self._discard(piece, now)
            else:
                self._carry(piece, now)

    def _take_head(self, now: float) -> bool:
        unsent = self.to_downstream
        if unsent and self.phase is _IDLE and sum(map(len, unsent)) > _MOST_UNSENT:
            return False
        head = self._requests.next()
        if isinstance(head, RequestHead):
            self._in_a_row += 1
            is_last = self._in_a_row >= self._terms.most_pipelined
            # RFC 9112 section 9.3.2: who pipelines is prepared to ask again what lies behind a last answer.
            self._draining = self._draining or is_last
            if self._begin(head, now):
                self.needs.append(_UPSTREAM)
            self.exchange.limit = "max_pipelined" if is_last else self.exchange.limit
            return True
        if not self._requests.buffered:
            self.phase = _IDLE
        elif self.phase is _IDLE:
            self.phase = _HEAD
            self.exchange = Exchange(now)
        return False

    def _begin(self, head: RequestHead, now: float) -> bool:
        """Take that a request has begun; whether it is granted, and needs an upstream connection."""
        terms, fields = self._terms, head.fields
        request_id, traceparent = head.request_id, head.traceparent
        if request_id is None or traceparent is None:
            request_id, traceparent = ids_for(head, terms.rng, terms.sampling)
        began = self.exchange.started if self.phase is _HEAD else now
        judge = terms.judge
        verdict = judge(head, request_id)
        exchange = self.exchange = Exchange(began, request_id, traceparent[TRACE_ID], head, verdict.decided)
        if terms.sampling is not None and traceparent[LAST_FLAG] in SAMPLED:
            trace = exchange.trace = trace_of(head, traceparent, terms.rng)
            traceparent = trace.traceparent
        self._head = head
        self._request_done = fields.framing.kind is _NO_BODY
        self._close = not fields.keep_alive or head.version is _OLD
        if isinstance(verdict, Refusal):
            self._reply(verdict.failure, "", now)
            return False
        if not self._request_done and self._is_too_much(fields.framing.length, now):
            return False
        self._forwarded = self._memory.to_service.head(head, verdict.client_id, request_id, traceparent)
        self.phase = _CONNECTING
        return True

    def _is_too_much(self, size: int, now: float) -> bool:
        """Whether a body of so many bytes is refused, which is told by then; its end need not be known yet."""
        most = self._terms.most_body
        if most is None or size <= most:
            return False
        self._reply(Failure.BODY_TOO_LARGE, f"a body of more than {most} bytes", now, limit="max_body_bytes")
        return True

    def _carry(self, piece: Piece, now: float) -> None:
        """Pass a piece of the request's body on."""
        if self._head is None or self._forwarded is None:
            raise AssertionError("only what was granted is carried")
        if self._is_too_much(self.exchange.bytes_in + piece.size, now):
            return
        write_piece(piece, self.to_upstream, chunked=self._head.fields.framing.kind is _CHUNKED)
        self.exchange.bytes_in += piece.size
        if piece.last:
            self._request_done = True
            if self.phase is not _ANSWERING:
                self.phase = _AWAITING
        elif self.phase is _EXPECTING:
            self.phase = _BODY  # it did not wait

    def _discard(self, piece: Piece, now: float) -> None:
        self._discarded += piece.size
        if self._discarded > MOST_DISCARDED:
            self._end_exchange(now)
            self._over(Need.CLOSE)
        elif piece.last:
            self._request_done = True
            self._finish(now)

    # The upstream's side.

    def attach(self, responses: ResponseReader, now: float, *, reused: bool) -> None:
        """Take an upstream connection; `reused` when it has carried an exchange before."""
        self.to_upstream.append(self.ask(responses, now, reused=reused))
        if not self._request_done and self._head is not None:
            self.phase = _EXPECTING if self._head.fields.expects_continue else _BODY
        self._advance(now)

    def ask(self, responses: ResponseReader, now: float, *, reused: bool) -> bytes:
        """As `attach`, for a request that has come whole: return what is to be sent on the connection."""
        if self.phase is not _CONNECTING or self._head is None or self._forwarded is None:
            raise AssertionError("nobody asked for an upstream")
        self._responses, self._reused = responses, reused
        responses.expect(self._head.method)
        self.exchange.upstream_asked = now
        self.phase = _AWAITING
        return self._forwarded

    def upstream_failed(self, failure: Failure, detail: str, now: float, *, limit: str = "") -> None:
        """Take that no upstream connection could be had; `limit` says which limit is why, if one is."""
        if self.phase is _CONNECTING:
            self._reply(failure, detail, now, limit=limit)
            self._advance(now)

    def feed_response(self, data: bytes, now: float) -> None:
        """Take bytes from the upstream; judged as strictly as the caller's."""
        answer = self.take_answer(data, now)
        if answer is not None:
            self.to_downstream.append(answer)
            self.finished.append(self.exchange)
            self.needs.appendleft(_RELEASE_UPSTREAM)

    def take_answer(self, data: bytes, now: float) -> bytes | None:
        """As `feed_response`; if that was the whole answer to a whole request, return it as it is to be passed on.

        Then the exchange is over, though not among those that `finished`, and the upstream connection free.
        """
        responses, request = self._responses, self._head
        if responses is None or request is None:
            return None
        # Before the final head nothing of it waits in the reader, unless it came in portions.
        is_awaited = not responses.buffered and (self.phase is _AWAITING or self.phase is _BODY)
        found = self._memory.from_service.recognise(request.method, data) if is_awaited else None
        if found is None:
            responses.feed(data)
        else:
            head, end = found
            size, framing = len(data) - end, head.framing
            is_complete = size == framing.length if framing.kind is _LENGTH else framing.kind is _NO_BODY and not size
            if (
                is_complete
                and head.keep_alive
                # The request is complete, and nothing came behind it, not even the caller's end.
                and self.phase is _AWAITING
                and not self._caller_ended
                and not self._requests.buffered
            ):
                responses.take_whole()
                # All from `_on_response_head` to `_finish`.
                exchange, close = self.exchange, self._close or self._draining
                exchange.status, exchange.bytes_out = head.status, size
                exchange.answered = exchange.ended = now
                self._responses = self._head = self._forwarded = None
                if close:
                    self._over(Need.CLOSE)
                else:
                    self.phase = _IDLE
                return self._memory.to_caller.head(head, request, exchange.request_id, close=close) + data[end:]
            responses.begin(head, data, end)
            self._on_response_head(head, now)
        self._read_response(responses, now)
        self._advance(now)
        return None

    def pass_answer(self, size: int) -> bool:
        """As `pass_request`, for bytes of the answer's body that go to the caller."""
        responses = self._responses
        if self.phase is not _ANSWERING or self.to_downstream or responses is None or not responses.pass_by(size):
            return False
        self.exchange.bytes_out += size
        return True

    def upstream_ended(self, now: float, *, clean: bool) -> None:
        """Take the upstream's end of stream; `clean` unless anybody on the path could have sent it."""
        responses, answer = self._responses, self._answer
        if responses is None:
            return
        if answer is not None and answer.runs_until_close and not clean:
            self.upstream_lost("the upstream ended an answer of unknown length without close_notify", now)
            return
        try:
            responses.eof()
        except BadMessage:
            self.upstream_lost("the upstream ended in the middle of its answer", now)
            return
        self._read_response(responses, now)
        self._advance(now)
        if self._responses is responses:
            self.upstream_lost("the upstream closed without an answer", now)

    def upstream_lost(self, detail: str, now: float, failure: Failure = Failure.UPSTREAM_CLOSED) -> None:
        """Take that the upstream connection broke, or was broken."""
        responses = self._responses
        if responses is None:
            return
        silent = self._answer is None and not responses.buffered
        self._drop_upstream()
        if silent and self._may_resend():
            self._try_again(now)
            self.phase = _CONNECTING
            self.needs.append(Need.FRESH_UPSTREAM)
        else:
            self._fail(failure, detail, now)
            self._advance(now)

    def _try_again(self, now: float) -> None:
        """Take that the request goes out once more; what its upstream is told as the parent span is another."""
        exchange, forwarded = self.exchange, self._forwarded
        exchange.resent = True
        if exchange.trace is not None and forwarded is not None:
            why, detail = Failure.UPSTREAM_CLOSED.word, "a connection that had rested was dead"
            self._forwarded = exchange.trace.try_again(forwarded, exchange.upstream_asked, now, why, detail)

    def _may_resend(self) -> bool:
        """Whether a pooled connection that broke may be the pool's fault: one resend, of what can be sent twice."""
        head = self._head
        return self._reused and not self.exchange.resent and head is not None and can_be_sent_again(head)

    def _read_response(self, responses: ResponseReader, now: float) -> None:
        try:
            while self._responses is responses:
                event = responses.next()
                if event is None:
                    return
                if isinstance(event, ResponseHead):
                    self._on_response_head(event, now)
                else:
                    self._on_response_piece(event, now)
        except BadMessage as bad:
            self._refuse_response(bad, now)

    def _refuse_response(self, bad: BadMessage, now: float) -> None:
        self._drop_upstream()
        self._fail(Failure.UPSTREAM_PROTOCOL, bad.detail, now)

    def _on_response_head(self, head: ResponseHead, now: float) -> None:
        answer = self._answer
        if answer is None:
            if self._head is None:
                raise AssertionError("an answer has a request")
            answer = self._answer = ForwardedAnswer(self._head, self.exchange.request_id)
        if head.status == 101:  # Switching Protocols
            self._upgrade(answer, head, now)
        elif head.status < 200:  # interim, RFC 9110 section 15.2
            self.to_downstream.append(answer.interim(head))
            if self.phase is _EXPECTING:
                self.phase = _BODY
        else:
            # An answer before the end of its request: whether the caller will send the rest is not known.
            self._close = self._close or self._draining or not self._request_done
            self.to_downstream.append(answer.begin(head, close=self._close))
            self.exchange.status, self.exchange.answered = head.status, now
            self.phase = _ANSWERING
            if head.framing.kind is _NO_BODY:
                self._complete(now)

    def _on_response_piece(self, piece: Piece, now: float) -> None:
        if self._answer is None:
            raise AssertionError("an answer has a request")
        write_piece(piece, self.to_downstream, chunked=self._answer.chunked)
        self.exchange.bytes_out += piece.size
        if piece.last:
            self._complete(now)

    def _complete(self, now: float) -> None:
        """Take that the answer is complete: let go of the upstream connection, and finish."""
        self._let_go_of_upstream()
        self._finish(now)

    def _let_go_of_upstream(self) -> None:
        """The answer is complete: say what becomes of the connection it came on."""
        responses, self._responses = self._responses, None
        head = None if self._answer is None else self._answer.head
        if responses is None or head is None or not self._request_done or responses.buffered:
            self.needs.append(Need.DROP_UPSTREAM)  # what comes unasked belongs to nobody
        else:
            self.needs.append(_RELEASE_UPSTREAM if head.keep_alive else Need.CLOSE_UPSTREAM)

    def _upgrade(self, answer: ForwardedAnswer, head: ResponseHead, now: float) -> None:
        if not self._request_done:
            raise BadMessage(502, "the upstream switches protocols in the middle of a request")
        self.to_downstream.append(answer.switch(head))
        self.exchange.status, self.exchange.answered, self.exchange.upgraded = head.status, now, True
        responses, self._responses = self._responses, None
        # Either side may have gone on without waiting: what it said belongs to the stream, and counts with it.
        if responses is not None and responses.buffered:
            self.exchange.bytes_out += responses.buffered
            self.to_downstream.append(responses.take_rest())
        if self._requests.buffered:
            self.exchange.bytes_in += self._requests.buffered
            self.to_upstream.append(self._requests.take_rest())
        self.phase = _UPGRADED
        self.needs.append(Need.UPGRADE)

    # Time, and the end of things.

    def timed_out(self, now: float) -> None:
        """Take that the current phase has lasted too long; what follows depends on the phase."""
        phase = self.phase
        if phase is _IDLE:
            self._over(Need.CLOSE)
        elif phase is _ANSWERING:
            self._cut(Failure.RESPONSE_TRUNCATED, "the answer stopped moving", now)
        elif phase is _DISCARDING:
            self._end_exchange(now)
            self._over(Need.CLOSE)
        elif phase in _OVERDUE:
            if phase is _HEAD:
                self._begin_unreadable(now)
            if phase is _HEAD or phase is _BODY:
                self._request_done = self._close = True
            self._reply(*_OVERDUE[phase], now)
            self._advance(now)

    def upstream_stalled(self, now: float) -> None:
        """Take that the upstream has not taken the request's body for too long."""
        if self._responses is not None:
            self._fail(Failure.RESPONSE_TIMEOUT, "the upstream stopped taking the request", now)
            self._advance(now)

    def drain(self) -> None:
        """Take that the sidecar is going away: the connection ends with its current answer, or its next."""
        self._draining = True
