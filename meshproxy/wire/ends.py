"""How a connection ended: one list of words for the access line, the metric and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """The `end` of an access line."""

    CLEAN = "clean"  # both directions ended properly
    RESET = "reset"  # one side broke the connection
    TRUNCATED = "truncated"  # the TLS peer ended without close_notify: bytes may be missing
    CORRUPT = "corrupt"  # bytes that do not authenticate, or abuse of the protocol
    REFUSED = "refused"  # outbound: the far end closed before any byte
    DENIED = "denied"  # inbound: no rule grants it
    IDLE = "idle"  # nothing moved for idle_timeout
    REVOKED = "revoked"  # the peer's certificate came onto the deny-list, or its trust domain is federated with no more
    AGED = "aged"  # a certificate of the two ran out, or max_connection_age
    DRAINED = "drained"  # cut at drain_timeout
    FAILED = "failed"  # never got as far as an upstream


class Side(StrEnum):
    """Who ended it."""

    PLAIN = "plain"
    TLS = "tls"


class PeerEof(StrEnum):
    """What a bare FIN of the TLS peer means on a listener."""

    STRICT = "strict"
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """The end, the side that caused it (None for a clean one) and a phrase for people (may be empty).

    `limit` is the key of the settings that ended it, if one did.
    """

    end: End
    side: Side | None = None
    detail: str = ""
    limit: str = ""
