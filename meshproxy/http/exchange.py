"""One request and what became of it: the story its access line tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from meshproxy.errors import Failure
    from meshproxy.http.head import RequestHead
    from meshproxy.http.trace_context import Trace


class Decided(msgspec.Struct, frozen=True, gc=False):
    """What the allow-list said about a request, in the words of the access line."""

    caller: str
    decision: str
    rule: str
    reason: str
    mode: str
    policy: str
    recorded: bool | None = None  # whether its rule wants it in the audit log; None: the listener says


class Exchange(msgspec.Struct, gc=False):
    """Filled in while the exchange goes on; times are seconds of the relay's clock, 0.0 for a point not reached."""

    started: float
    request_id: bytes = b""
    trace_id: bytes = b""
    head: RequestHead | None = None  # None: what came was not a request
    decided: Decided | None = None  # outbound: nobody decides
    status: int = 0  # 0: no answer was begun
    failure: Failure | None = None
    detail: str = ""  # for our log only
    upstream_asked: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    bytes_in: int = 0  # body bytes of the request
    bytes_out: int = 0  # body bytes of the answer
    resent: bool = False
    upgraded: bool = False
    trace: Trace | None = None  # where it is sampled
    limit: str = ""  # the key of the settings that ended it, or ends its connection
