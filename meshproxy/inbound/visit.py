"""One connection's story, and what every listener of a sidecar shares."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from meshproxy.admin.roster import ConnectionRow
from meshproxy.telemetry.access import ConnectionLine, present_time
from meshproxy.wire.relay import Traffic

if TYPE_CHECKING:
    from meshproxy.identity.store import IdentityStore
    from meshproxy.limits.waiting_room import Place
    from meshproxy.telemetry.flows import Flow, Stream
    from meshproxy.telemetry.record import Recorder
    from meshproxy.tracing.tracer import Tracer
    from meshproxy.wire.dial import Resolver
    from meshproxy.wire.ends import ConnectionEnd
    from meshproxy.wire.relay import Relay

_RUN = secrets.token_hex(3)  # tells the connections of two runs apart in one log
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Services:
    """What every listener of one sidecar shares."""

    relay: Relay
    resolver: Resolver
    identity: IdentityStore
    recorder: Recorder
    tracer: Tracer | None = None  # no spans are made


class Talk(Protocol):
    """How it goes with the requests of an HTTP connection."""

    @property
    def requests(self) -> int:
        """How many are over."""

    @property
    def bytes_in(self) -> int:
        """Of their bodies."""

    @property
    def bytes_out(self) -> int:
        """Of the bodies of their answers."""

    @property
    def rule(self) -> str:
        """That has granted one of them, mostly the last; empty: none has, or nobody is asked."""


# A struct and no dataclass, as one is made per connection: 1 us where a dataclass of that many fields takes 2.5.
class Visit(msgspec.Struct):
    """One connection's story, from which its access line is written."""

    listener: str
    direction: str
    peer: str
    id: str = msgspec.field(default_factory=lambda: f"{_RUN}-{next(_NUMBERS)}")
    started: float = msgspec.field(default_factory=trio.current_time)
    arrived: str = msgspec.field(default_factory=present_time)
    end: ConnectionEnd | None = None  # None: it never got far enough to be worth a line
    traffic: Traffic = msgspec.field(default_factory=Traffic)
    caller: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""
    mode: str = ""
    policy: str = ""
    upstream: str = ""
    upstream_id: str = ""
    flow: Flow | None = None  # where it is counted, once it is known whose it is; it has entered that
    stream: Stream | None = None  # TCP, or once upgraded: counted at `flow` while it moves
    talk: Talk | None = None  # HTTP: how it goes with its requests
    place: Place | None = None  # inbound: until it is known who is calling

    def row(self, now: float) -> ConnectionRow:
        """Return it as /connections shows it; `now` is in seconds since 1970."""
        inbound, talk = self.direction == "inbound", self.talk
        bytes_in, bytes_out = (0, 0) if self.stream is None else self.stream.moved
        return ConnectionRow(
            id=self.id,
            listener=self.listener,
            direction=self.direction,
            peer=self.peer,
            principal=self.caller if inbound else self.upstream_id or self.upstream,
            rule=self.rule if talk is None else talk.rule,
            since=round(now - (trio.current_time() - self.started), 3),
            bytes_in=bytes_in + (0 if talk is None else talk.bytes_in),
            bytes_out=bytes_out + (0 if talk is None else talk.bytes_out),
            protocol="" if self.flow is None else self.flow.edge.protocol,
            requests=0 if talk is None else talk.requests,
        )

    def line(self, end: ConnectionEnd) -> ConnectionLine:
        """Return the access line; bytes count towards the upstream as `in`."""
        inbound, traffic = self.direction == "inbound", self.traffic
        # In the order of the struct: by keywords this took 2 us more.
        return ConnectionLine(
            self.arrived,
            self.listener,
            self.direction,
            self.id,
            end.end,
            self.peer,
            self.caller,
            self.decision,
            self.rule,
            self.reason,
            self.mode,
            self.policy,
            self.upstream,
            self.upstream_id,
            traffic.to_plain if inbound else traffic.to_tls,
            traffic.to_tls if inbound else traffic.to_plain,
            round((trio.current_time() - self.started) * 1000, 3),
            end.side or "",
            end.detail,
        )
