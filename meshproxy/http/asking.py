"""The caller's side of the exchange: what it says is read, judged, and passed on or refused; see `relay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.errors import Failure
from meshproxy.http.endings import MOST_DISCARDED, Endings
from meshproxy.http.exchange import Exchange
from meshproxy.http.forwarded import write_piece
from meshproxy.http.head import BadMessage, FramingKind, RequestHead, Version
from meshproxy.http.phase import Need, Phase
from meshproxy.http.terms import Refusal
from meshproxy.http.trace_context import LAST_FLAG, SAMPLED, TRACE_ID, ids_for, trace_of
from meshproxy.limits.flight import OVERLOAD

if TYPE_CHECKING:
    from meshproxy.http.codec import Piece

# From here on no further request is begun until the caller takes what it was answered (bytes): answers of our own cost
# the caller a few bytes each, so whoever asks and never reads would fill our memory, and one batch our time.
_MOST_UNSENT: Final = 16 * 1024


_EARLY: Final = "asked again before the time was over that it was told to stay away"

# Bound once: to look a member up in its class takes ten times as long on Python 3.11, and each message asks often.
_IDLE: Final = Phase.IDLE
_PUT_OFF: Final = Phase.PUT_OFF
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
_CHUNKED: Final = FramingKind.CHUNKED
_OLD: Final = Version.HTTP_1_0
_UPSTREAM: Final = Need.UPSTREAM


class Asking(Endings):
    """What one connection's caller asks for. `now` is seconds of any monotonic clock; `phase` tells where it stands."""

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
        if phase is _PUT_OFF:
            return self._early
        return phase is _HEAD or phase is _BODY or phase is _EXPECTING or phase is _DISCARDING

    @property
    def held_back(self) -> bool:
        """Whether bytes of further requests wait here until the caller has taken its answers."""
        return (self.phase is _IDLE or (self._early and self.phase is _PUT_OFF)) and self._requests.buffered > 0

    def rests(self) -> bool:
        """Whether nothing is going on, and nothing waits here: what the caller says next begins a request.

        No property, for each event asks: Python 3.11 calls a method in a third of the time.
        """
        return self.phase is _IDLE and not self._requests.buffered and not self._caller_ended

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

    @property
    def has_more(self) -> bool:
        """Whether bytes of the caller wait here."""
        return self._requests.buffered > 0

    @property
    def hears_early(self) -> bool:
        """Whether it listens to a caller that was put off, to refuse it once more."""
        return self._early and self.phase is _PUT_OFF

    def hear_again(self, *, early: bool) -> None:
        """Listen to a caller that was put off; `early`: what it has said meanwhile is to be refused once more."""
        if self.phase is not _PUT_OFF:
            return
        if not self._requests.buffered:
            self._in_a_row = -1  # the next one lies behind no other
        self._early = early
        if not early:
            self.phase = _IDLE

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
            if phase is _IDLE or phase is _HEAD or (self._early and phase is _PUT_OFF):
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
            came_early, self._early = self._early, False
            if self._begin(head, now):
                if came_early:
                    self._reply(Failure.OVERLOADED, _EARLY, now, limit=OVERLOAD)
                else:
                    self.needs.append(_UPSTREAM)
            self.exchange.limit = "max_pipelined" if is_last else self.exchange.limit
            return True
        if not self._requests.buffered:
            self.phase, self._early = _IDLE, False
        elif self.phase is _IDLE or self.phase is _PUT_OFF:
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
