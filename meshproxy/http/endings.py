"""How an exchange ends, and with it perhaps the connection: by its answer, by one of our own, or by a cut.

The state of `relay`'s machine lives here, for how it may end depends on all of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from meshproxy.errors import Failure
from meshproxy.http import reply
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.exchange import Exchange
from meshproxy.http.fields import new_request_id
from meshproxy.http.kept import Memory
from meshproxy.http.phase import Need, Phase

if TYPE_CHECKING:
    from meshproxy.http.codec import Part
    from meshproxy.http.forwarded import ForwardedAnswer
    from meshproxy.http.head import BadMessage, RequestHead
    from meshproxy.http.terms import Terms

_BY_STATUS: Final = {
    405: Failure.METHOD_REFUSED,
    414: Failure.TARGET_TOO_LONG,
    417: Failure.EXPECTATION,
    431: Failure.HEAD_TOO_LARGE,
    501: Failure.NOT_IMPLEMENTED,
    505: Failure.VERSION_REFUSED,
}

# Refused for now: whoever asks again may do so after so many seconds (RFC 9110 section 10.2.3).
RETRY_AFTER: Final = 1
_FOR_NOW: Final = frozenset({429, 503})

# There is too much to do, which in so many seconds may have changed. Who asks again at once would be refused again, and
# refusing costs half of what serving does: a few hundred of those leave no time for others. So what they say is not
# read until most of that time is over (Phase.PUT_OFF), which costs nothing.
STAY_AWAY: Final = 2
_LATER: Final = frozenset({Failure.OVERLOADED, Failure.LIMIT})

# A refused request's body is read and thrown away up to here, so that the connection can go on (bytes).
MOST_DISCARDED: Final = 64 * 1024

_IDLE: Final = Phase.IDLE
_BEFORE_A_REQUEST: Final = frozenset({Phase.IDLE, Phase.HEAD, Phase.PUT_OFF})


class Endings:
    """What one connection has come to, and the ways it can end; see `HttpRelay`."""

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self._memory = terms.memory or Memory(terms.limits, terms.host)
        self._requests = RequestReader(terms.limits)
        self._responses: ResponseReader | None = None  # of the upstream connection, while there is one
        self._head: RequestHead | None = None  # of the current request; None: there is none, or it was unreadable
        self._forwarded: bytes | None = None  # the same towards the service, once it is granted
        self._answer: ForwardedAnswer | None = None  # to it, once there is any, not even an interim one
        self._request_done = True
        self._discarded = 0
        self._in_a_row = 0  # requests that were there before the answer to the one before them was
        self._close = False  # the connection ends with the current answer
        self._early = False  # put off, and heard: the next request came too early, and is refused
        self._reused = False  # the upstream connection has carried an exchange before
        self._caller_ended = False
        self._draining = False
        self.phase = _IDLE
        self.exchange = Exchange(now)
        self.finished: list[Exchange] = []
        self.to_downstream: list[Part] = []
        self.to_upstream: list[Part] = []
        self.needs: deque[Need] = deque()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.phase.name} request_done={self._request_done} answered={self._is_answered}"
            f" close={self._close} needs={[n.name for n in self.needs]}>"
        )

    @property
    def _is_answered(self) -> bool:
        return self._answer is not None and self._answer.head is not None

    def downstream_lost(self, detail: str, now: float, failure: Failure = Failure.CLIENT_GONE) -> None:
        """Take that the caller is gone, or is to be: a half-sent request must not be completed upstream."""
        if self.phase is Phase.OVER or self.phase is Phase.UPGRADED:
            return
        if self.phase is Phase.IDLE or self.phase is Phase.PUT_OFF:
            self._over(Need.ABORT)
        else:
            self._cut(failure, detail, now)

    def _follow_caller(self, now: float) -> None:
        """End what cannot come to an end any more, for its caller has said its last byte."""
        if self.phase is Phase.IDLE or self.phase is Phase.PUT_OFF:
            if not self._requests.buffered:
                self._over(Need.CLOSE)
        elif self.phase is Phase.DISCARDING:
            self._end_exchange(now)
            self._over(Need.CLOSE)
        elif self.phase is Phase.HEAD or (self.phase is not Phase.CONNECTING and not self._request_done):
            self.downstream_lost("the caller ended in the middle of its request", now)

    def _refuse_message(self, bad: BadMessage, now: float) -> None:
        """Answer what is not acceptable HTTP and end the connection: where the next message begins is unknown."""
        if self.phase is Phase.DISCARDING:  # its answer is out, and a second one would be taken for another's
            self._end_exchange(now)
            self._over(Need.CLOSE)
            return
        if self.phase in _BEFORE_A_REQUEST:
            self._begin_unreadable(now)
        self._request_done = self._close = True
        self._reply(_BY_STATUS.get(bad.status, Failure.BAD_REQUEST), bad.detail, now, limit=bad.limit)

    def _begin_unreadable(self, now: float) -> None:
        """Begin an exchange whose request has no readable head."""
        self.exchange = self.exchange if self.phase is Phase.HEAD else Exchange(now)
        self.exchange.request_id = new_request_id(self._terms.rng)
        self._head = self._forwarded = self._answer = None

    def _fail(self, failure: Failure, detail: str, now: float) -> None:
        """Tell the caller of a failure of the upstream, or cut the answer that has begun."""
        if self._is_answered:
            self._cut(Failure.RESPONSE_TRUNCATED, detail, now)
        else:
            self._reply(failure, detail, now)

    def _reply(self, failure: Failure, detail: str, now: float, *, limit: str = "") -> None:
        """Answer ourselves; if the service's answer has begun, cut it instead. `limit` is the one reached, if any."""
        self.exchange.limit = self.exchange.limit or limit
        if self._is_answered:
            self._cut(failure, detail, now)
            return
        self._drop_upstream()
        self._tell_failure(failure, detail)
        self.exchange.status, self.exchange.answered = failure.status, now
        self._close = self._close or self._draining or self._will_not_be_discarded() or self._leaves_others(failure)
        self.to_downstream.append(
            reply.problem(
                failure.status,
                title=failure.title,
                request_id=self.exchange.request_id,
                error_token=failure.token,
                close=self._close,
                retry_after=_retry_after(failure),
                with_body=self._head is None or self._head.method != b"HEAD",
            )
        )
        if self._request_done or self._close:
            self._finish(now)
        else:
            self.phase, self._discarded = Phase.DISCARDING, 0

    def _will_not_be_discarded(self) -> bool:
        """Whether the rest of a refused request is too much to read, or may never come, so that nothing can follow."""
        head = self._head
        if self._request_done or head is None:
            return False
        # Who waits for 100 Continue may or may not send its body now.
        return head.fields.expects_continue or head.fields.framing.length - self.exchange.bytes_in > MOST_DISCARDED

    def _leaves_others(self, failure: Failure) -> bool:
        """Whether requests lie behind one that is put off: each would wait for the time of all before it.

        RFC 9112 section 9.3.2: who pipelines is prepared to ask again what lies behind a last answer.
        """
        return failure in _LATER and self._request_done and self._requests.buffered > 0

    def _cut(self, failure: Failure, detail: str, now: float) -> None:
        """End the downstream so that it sees that its answer is incomplete."""
        self._drop_upstream()
        self._tell_failure(failure, detail)
        self._end_exchange(now)
        self._over(Need.ABORT)

    def _tell_failure(self, failure: Failure, detail: str) -> None:
        if self.exchange.failure is None:
            self.exchange.failure, self.exchange.detail = failure, detail

    def _finish(self, now: float) -> None:
        """The answer is complete: go on with the next request, or end."""
        self._end_exchange(now)
        if self._close:
            self._over(Need.CLOSE)
            return
        if self.exchange.failure in _LATER:
            self.phase = Phase.PUT_OFF
            self.needs.append(Need.PUT_OFF)
        else:
            self.phase = _IDLE
        self._head = self._forwarded = self._answer = None

    def _end_exchange(self, now: float) -> None:
        self.exchange.ended = now
        self.finished.append(self.exchange)

    def _drop_upstream(self) -> None:
        """Let go of the upstream connection in the middle of an exchange, or of the wish for one."""
        if self._responses is not None:
            self._responses = None
            self.needs.append(Need.DROP_UPSTREAM)
        elif self.phase is Phase.CONNECTING:
            for need in (Need.UPSTREAM, Need.FRESH_UPSTREAM):
                if need in self.needs:
                    self.needs.remove(need)
        self.to_upstream.clear()

    def _over(self, how: Need) -> None:
        self.phase = Phase.OVER
        self.needs.append(how)


def _retry_after(failure: Failure) -> int | None:
    if failure in _LATER:
        return STAY_AWAY
    return RETRY_AFTER if failure.status in _FOR_NOW else None
