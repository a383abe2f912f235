"""A stage for `HttpRelay`: says lines to it, and writes down what it says and asks for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from meshproxy.http.codec import ResponseReader
from meshproxy.http.head import HeadLimits
from meshproxy.http.relay import HttpRelay
from meshproxy.http.terms import Grant, Refusal, Terms

if TYPE_CHECKING:
    from meshproxy.http.exchange import Exchange
    from meshproxy.http.head import RequestHead
    from meshproxy.http.phase import Need, Phase
    from meshproxy.http.terms import Judge
    from meshproxy.http.trace_context import Sampling

LIMITS = HeadLimits()


def judge(head: RequestHead, _request_id: bytes = b"") -> Grant | Refusal:
    """Grant all but what lies under /no."""
    return Refusal() if head.target.path.startswith(b"/no") else Grant(b"spiffe://td/caller")


class Play:
    """One relay, its clock standing still; everything it says is collected, and the needs it has, in order.

    `down` and `up` are all bytes so far. `up_ends` counts the upstream connections it gave up.
    """

    def __init__(
        self,
        judge: Judge = judge,
        *,
        limits: HeadLimits = LIMITS,
        sampling: Sampling | None = None,
        most_body: int | None = None,
        most_pipelined: int = 10_000,
    ) -> None:
        terms = Terms(
            limits,
            judge,
            random.Random(1),
            sampling=sampling,
            most_body=most_body,
            most_pipelined=most_pipelined,
        )
        self.relay = HttpRelay(terms, 0.0)
        self.down = b""
        self.up = b""
        self.needs: list[Need] = []
        self.told: list[Exchange] = []
        self.responses: ResponseReader | None = None

    def stands(self) -> Phase:
        """Where the relay stands."""
        return self.relay.phase

    def says(self, data: bytes) -> Play:
        """The caller says."""
        self.relay.feed(data, 0.0)
        return self.collected()

    def gets(self, *, reused: bool = False, responses: ResponseReader | None = None) -> Play:
        """It gets an upstream connection."""
        self.responses = responses or ResponseReader(LIMITS)
        self.up = b""
        self.relay.attach(self.responses, 0.0, reused=reused)
        return self.collected()

    def hears(self, data: bytes) -> Play:
        """The upstream says."""
        self.relay.feed_response(data, 0.0)
        return self.collected()

    def upstream_ends(self, *, clean: bool = True) -> Play:
        self.relay.upstream_ended(0.0, clean=clean)
        return self.collected()

    def upstream_breaks(self) -> Play:
        self.relay.upstream_lost("it broke", 0.0)
        return self.collected()

    def caller_ends(self) -> Play:
        self.relay.downstream_ended(0.0)
        return self.collected()

    def caller_breaks(self) -> Play:
        self.relay.downstream_lost("it broke", 0.0)
        return self.collected()

    def waits(self) -> Play:
        """The phase lasts too long."""
        self.relay.timed_out(0.0)
        return self.collected()

    def collected(self) -> Play:
        """Take what the relay has to say, as a driver does, until it has no more."""
        relay = self.relay
        while True:
            self.down += b"".join(relay.to_downstream)
            self.up += b"".join(relay.to_upstream)
            relay.to_downstream.clear()
            relay.to_upstream.clear()
            self.needs += relay.needs
            relay.needs.clear()
            self.told += relay.finished
            relay.finished.clear()
            if not relay.held_back:
                return self
            relay.proceed(0.0)

    def new_needs(self) -> list[Need]:
        """What it asked for since the last look."""
        needs, self.needs = self.needs, []
        return needs

    def statuses(self) -> list[int]:
        """The status of every answer that went down, interim ones included; for answers with short plain bodies."""
        return [int(part[:3]) for part in self.down.split(b"HTTP/1.1 ")[1:]]
