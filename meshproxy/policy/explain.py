"""For a denial: the rule that came closest, and in one phrase why it did not grant.

It looks at every rule on the word of whoever was denied, so it is called for rate-limited log lines and for people,
never per connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from meshproxy.policy.match import ANY_SEGMENT, identity_segments

if TYPE_CHECKING:
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule
    from meshproxy.policy.match import IdentityPattern, Segments

MAX_PATTERNS: Final = 2_000  # patterns looked at, at most 12 ms on the loop; a longer list is judged by its beginning
_MAX_SHOWN: Final = 120  # characters of an identity or pattern in a log line


class Distance(IntEnum):
    """How a pattern missed a caller, the nearest miss first."""

    EXPIRED = 0
    TRUST_DOMAIN = 1
    CASE = 2
    ONE_SEGMENT = 3
    LENGTH = 4


_PHRASES: Final = {
    Distance.TRUST_DOMAIN: "the same path in another trust domain",
    Distance.CASE: "they differ in upper and lower case only",
    Distance.ONE_SEGMENT: "one segment differs",
    Distance.LENGTH: "one is longer than the other (`/**` at the end grants what is below, `*` one segment)",
}


@dataclass(frozen=True, slots=True)
class Nearest:
    """The rule that came closest to granting, by how much it missed, and all that in one phrase for people."""

    rule: Rule
    distance: Distance
    text: str

    def __str__(self) -> str:
        return self.text


def nearest_rule(policy: Policy, caller: SpiffeId, *, home: TrustDomain, now: datetime) -> Nearest | None:
    """Return the rule that came closest to granting `caller`, the first in file order among equals; None if none did.

    Meant for a caller that was denied: rules that do grant are passed over. `now` is aware.
    """
    segments = identity_segments(caller)
    at_home = caller.trust_domain == home
    best: tuple[Distance, Rule, IdentityPattern] | None = None
    patterns = ((rule, pattern) for rule in policy.rules for pattern in rule.callers)
    for rule, pattern in islice(patterns, MAX_PATTERNS):
        in_domain = at_home if pattern.trust_domain is None else pattern.trust_domain == caller.trust_domain
        distance = _distance(pattern.segments, segments)
        if not in_domain:
            distance = Distance.TRUST_DOMAIN if distance is Distance.EXPIRED else None
        elif distance is Distance.EXPIRED and not rule.expired(now):
            continue
        if distance is not None and (best is None or distance < best[0]):
            best = (distance, rule, pattern)
    if best is None:
        return None
    distance, rule, pattern = best
    if distance is Distance.EXPIRED:
        why = f"but expired {rule.expires:%Y-%m-%d %H:%M} UTC"
    else:
        name = _cut(caller.path if caller.trust_domain == home else str(caller))
        why = f"the caller is {name}: {_PHRASES[distance]}"
    return Nearest(rule, distance, f'rule "{rule.name}" ({policy.file}:{rule.line}) grants {_cut(pattern.text)}, {why}')


def _distance(pattern: Segments, segments: list[str]) -> Distance | None:
    """How far a pattern is from the segments of a caller; EXPIRED when they match, None when they are unlike."""
    shares_a_segment = False
    misses: list[tuple[str, str]] = []
    for wanted, segment in zip(pattern.fixed, segments, strict=False):
        if wanted == segment:
            shares_a_segment = True
        elif wanted != ANY_SEGMENT:
            misses.append((wanted, segment))
    surplus = len(segments) - len(pattern.fixed)
    if surplus < 0 or (surplus > 0 and not pattern.open_ended):
        return Distance.LENGTH if shares_a_segment and not misses else None
    if not misses:
        return Distance.EXPIRED
    if all(wanted.casefold() == segment.casefold() for wanted, segment in misses):
        return Distance.CASE
    if len(misses) == 1 and (shares_a_segment or _alike(*misses[0])):
        return Distance.ONE_SEGMENT
    return None


def _alike(wanted: str, segment: str) -> bool:
    """Whether two segments may be a slip of the pen: what they share at both ends is most of the longer one."""
    shorter, longer = sorted((len(wanted), len(segment)))
    head = next((n for n in range(shorter) if wanted[n] != segment[n]), shorter)
    tail = next((n for n in range(shorter - head) if wanted[-1 - n] != segment[-1 - n]), shorter - head)
    return 3 * (head + tail) >= 2 * longer


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
