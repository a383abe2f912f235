"""The shape of /connections: who is connected now."""

from __future__ import annotations

import msgspec


class ConnectionRow(msgspec.Struct, frozen=True):
    """One open connection; `since` in seconds since 1970."""

    id: str  # as in its access lines
    listener: str
    direction: str
    peer: str  # host:port of who connected, or "unix"
    principal: str  # inbound: who that is; outbound: the identity at the far end, once it is there
    rule: str  # that let it in, or (HTTP) the last request
    since: float
    bytes_in: int
    bytes_out: int
    protocol: str
    requests: int
