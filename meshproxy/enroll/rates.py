"""How often somebody is answered: token buckets per address, per identity and in all, as `[rates]` of ca.toml says.

Whoever comes too often is told how long to wait, and costs nothing more. Being refused takes nothing from a bucket: who
is held up by his own does not use up what belongs to all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ca.configuration import Rates

_MOST: Final = 16_384  # addresses, or identities, that are kept apart
_SITE: Final = 64  # bits of an IPv6 address: whoever has one has as many as he likes of the rest (RFC 4291 2.5.4)


class By(StrEnum):
    """Which bucket was empty; the values are metric labels and log words."""

    ADDRESS = "address"
    IDENTITY = "identity"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class TooOften:
    """He is to come back in `wait` seconds."""

    by: By
    wait: float


class Buckets:
    """One bucket for each key: `burst` at once, `per_second` in the long run.

    At most `most` keys; then the one that was used least recently goes, which is the fullest: forgetting a full bucket
    forgets nothing.
    """

    def __init__(self, *, per_second: float, burst: float, most: int = _MOST) -> None:
        self._per_second = per_second
        self._burst = max(burst, 1.0)
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many

    def __repr__(self) -> str:
        return f"<Buckets {len(self._levels)} of {self._most} at {self._per_second:g}/s, burst {self._burst:g}>"

    def wait(self, key: str, now: float) -> float:
        """Return in how many seconds there is a token for `key`; 0 when there is one. Nothing is taken."""
        return max(1.0 - self._level(key, now), 0.0) / self._per_second

    def take(self, key: str, now: float) -> None:
        """Take a token of `key`, which must have one."""
        level = self._level(key, now) - 1.0
        self._levels.pop(key, None)  # to the end of the order
        if len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        self._levels[key] = (level, now)

    def _level(self, key: str, now: float) -> float:
        found = self._levels.get(key)
        if found is None:
            return self._burst
        level, at = found
        return min(level + max(now - at, 0.0) * self._per_second, self._burst)


class Gate:
    """Whether somebody is answered now. `now` is any clock of seconds that does not go back."""

    def __init__(self, rates: Rates, *, most: int = _MOST) -> None:
        self._strangers = Buckets(per_second=rates.enrol_per_address, burst=rates.enrol_burst_per_address, most=most)
        self._enrolments = Buckets(per_second=rates.enrol_total, burst=rates.enrol_total, most=1)
        per_minute = rates.renew_per_identity_per_minute
        self._identities = Buckets(per_second=per_minute / 60, burst=per_minute, most=most)
        self._renewals = Buckets(per_second=rates.renew_total, burst=rates.renew_total, most=1)

    def __repr__(self) -> str:
        return f"<Gate addresses={self._strangers!r} identities={self._identities!r}>"

    def enrol(self, address: str, *, now: float) -> TooOften | None:
        """Let somebody from an address (`host:port`) try a token, or say how long he has to wait."""
        return _pass([(By.ADDRESS, self._strangers, origin(address)), (By.TOTAL, self._enrolments, "")], now=now)

    def knock(self, address: str, *, now: float) -> TooOften | None:
        """Let somebody from an address have a signature looked at: it is work, and nobody knows yet who he is."""
        return _pass([(By.ADDRESS, self._strangers, origin(address))], now=now)

    def renew(self, identity: str, *, now: float) -> TooOften | None:
        """Let the holder of a certificate of an identity renew it, or say how long he has to wait."""
        return _pass([(By.IDENTITY, self._identities, identity), (By.TOTAL, self._renewals, "")], now=now)


def origin(address: str) -> str:
    """Who is behind an address (`host:port`, `[v6]:port`): its host; of an IPv6 address, the network of the site."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return host or address
    if not isinstance(ip, IPv6Address):
        return host
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> (128 - _SITE) << (128 - _SITE))}/{_SITE}"


def _pass(stations: Sequence[tuple[By, Buckets, str]], *, now: float) -> TooOften | None:
    """Take from all buckets or from none."""
    waits = [TooOften(by, buckets.wait(key, now)) for by, buckets, key in stations]
    longest = max(waits, key=lambda each: each.wait)
    if longest.wait > 0:
        return longest
    for _, buckets, key in stations:
        buckets.take(key, now)
    return None
