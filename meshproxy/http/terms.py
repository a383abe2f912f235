"""What the exchange asks the house before a request goes on, and on which terms all requests of a listener do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from meshproxy.errors import Failure
from meshproxy.http.head import RequestHead

if TYPE_CHECKING:
    from meshproxy.http.exchange import Decided
    from meshproxy.http.fields import RandomSource
    from meshproxy.http.head import HeadLimits
    from meshproxy.http.kept import Memory
    from meshproxy.http.trace_context import Sampling


class Grant(msgspec.Struct, frozen=True, gc=False):
    """The request may go on; `client_id` is what the service is told about its caller (None: nothing)."""

    client_id: bytes | None = None
    decided: Decided | None = None


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The request may not go on."""

    failure: Failure = Failure.DENIED
    decided: Decided | None = None


# Takes what was asked, and the id by which the request is known in every log.
Judge = Callable[[RequestHead, bytes], Grant | Refusal]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all exchanges of a listener; `host` replaces the Host field (None: as received).

    `sampling` says which traces that begin here are sampled (None: no spans are made of any).
    """

    limits: HeadLimits
    judge: Judge
    rng: RandomSource
    host: bytes | None = None
    memory: Memory | None = None  # None: each connection has its own
    sampling: Sampling | None = None
    most_body: int | None = None  # bytes of a request's body (413); None: any number
    most_pipelined: int = 100  # requests sent without waiting for the answers before, one after the other
