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
from meshproxy.http.asking import Asking
from meshproxy.http.forwarded import ForwardedAnswer, can_be_sent_again, write_piece
from meshproxy.http.head import BadMessage, FramingKind, ResponseHead
from meshproxy.http.phase import Need, Phase

if TYPE_CHECKING:
    from meshproxy.http.codec import Piece, ResponseReader

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
_NO_BODY: Final = FramingKind.NONE
_LENGTH: Final = FramingKind.LENGTH
_RELEASE_UPSTREAM: Final = Need.RELEASE_UPSTREAM


class HttpRelay(Asking):
    """See the module. `now` is seconds of any monotonic clock; `phase` tells where it stands."""

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
        phase = self.phase
        # Before the final head nothing of it waits in the reader, unless it came in portions.
        is_awaited = not responses.buffered and (phase is _AWAITING or phase is _BODY)
        familiar, request_id = self._memory.from_service, self.exchange.request_id
        found = familiar.recognise(request.method, data, request_id) if is_awaited else None
        if found is None:
            responses.feed(data)
        else:
            head, end = found
            size, framing = len(data) - end, head.framing
            if (
                (size == framing.length if framing.kind is _LENGTH else framing.kind is _NO_BODY and not size)
                and head.keep_alive
                # The request is complete, and nothing came behind it, not even the caller's end.
                and phase is _AWAITING
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
                return self._memory.to_caller.whole(head, data[end:], request, request_id, close=close)
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
