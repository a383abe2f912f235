"""In which order endpoints are tried: decided by what failed lately and `now`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshproxy.wire.address import Address

# How long an endpoint that failed is asked last: long enough that a dead host costs one caller its connect timeout and
# not every caller, short enough that a restarted one is found again.
REST_SECONDS = 5.0


class Phase(StrEnum):
    """How far an attempt came; in every one of them no application byte was sent, so the next endpoint is safe."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    HANDSHAKE = "handshake"
    IDENTITY = "identity"


class Blame(StrEnum):
    """Whose fault a failed handshake was (RFC 9209 sections 2.3.9 and 2.3.10)."""

    CERTIFICATE = "certificate"  # the far end's, which we do not accept
    ALERT = "alert"  # the far end said no


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One endpoint that could not be used, and why, in words."""

    endpoint: str
    phase: Phase
    detail: str
    timed_out: bool = False
    blame: Blame | None = None  # of a handshake, where it can be told

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.phase}: {self.detail}"


class NoUpstream(Exception):
    """Every endpoint failed; `failures` has at least one per endpoint, in the order tried."""

    def __init__(self, failures: Sequence[FailedAttempt]) -> None:
        self.failures = tuple(failures)
        super().__init__("; ".join(map(str, failures)))


def attempt_order(endpoints: Sequence[Address], failed_at: Mapping[Address, float], now: float) -> tuple[Address, ...]:
    """Return all endpoints: those at rest (failed less than REST_SECONDS ago) last, otherwise as written.

    Nothing is ever left out: when all failed lately, all are tried again.
    """
    if not failed_at:
        return tuple(endpoints)
    return tuple(sorted(endpoints, key=lambda endpoint: now - failed_at.get(endpoint, -REST_SECONDS) < REST_SECONDS))
