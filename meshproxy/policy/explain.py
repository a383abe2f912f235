"""Why a caller or a request was denied: what each rule said, and in one phrase the rule that came closest.

This looks at every rule on the word of whoever was denied, so it is called for rate-limited log lines and for people,
never per connection or request. It asks the rules themselves, not the index that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from meshproxy.policy.decide import Condition
from meshproxy.policy.match import ANY_SEGMENT, identity_segments
from meshproxy.toml import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule
    from meshproxy.policy.match import IdentityPattern, PathPattern, Segments

MAX_PATTERNS: Final = 2_000  # patterns looked at, at most 12 ms on the loop; a longer list is judged by its beginning
_MAX_SHOWN: Final = 120  # characters of an identity or pattern in a log line


class Distance(IntEnum):
    """How a rule missed, the nearest miss first: a request it grants other methods or paths, then a caller."""

    EXPIRED = 0
    METHOD = 1
    PATH_CASE = 2
    PATH_SEGMENT = 3
    PATH_LENGTH = 4
    PATH = 5
    TRUST_DOMAIN = 6
    CASE = 7
    ONE_SEGMENT = 8
    LENGTH = 9


_PHRASES: Final = {
    Distance.PATH_CASE: "they differ in upper and lower case only",
    Distance.PATH_SEGMENT: "one segment differs",
    Distance.PATH_LENGTH: (
        "one is longer than the other (`/**` at the end grants what is below, `*` one segment; /a is not /a/)"
    ),
    Distance.PATH: "another path",
    Distance.TRUST_DOMAIN: "the same path in another trust domain",
    Distance.CASE: "they differ in upper and lower case only",
    Distance.ONE_SEGMENT: "one segment differs",
    Distance.LENGTH: "one is longer than the other (`/**` at the end grants what is below, `*` one segment)",
}
_OF_PATH: Final = {
    Distance.CASE: Distance.PATH_CASE,
    Distance.ONE_SEGMENT: Distance.PATH_SEGMENT,
    Distance.LENGTH: Distance.PATH_LENGTH,
    None: Distance.PATH,
}
_VERDICTS: Final = {
    None: "grants",
    Condition.CALLER: "does not grant the caller",
    Condition.PATH: "grants the caller other paths",
    Condition.METHOD: "grants the caller other methods on this path",
    Condition.EXPIRY: "granted this, but expired",
}


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says to a request: the first condition that failed, in the order of `Condition`; None: granted.

    The first rule of a list that granted is the one that decided.
    """

    rule: Rule
    file: str
    failed: Condition | None

    def __str__(self) -> str:
        return f"{_named(self.rule, self.file)} {_VERDICTS[self.failed]}"


def explain_request(
    policy: Policy, caller: SpiffeId, method: str, path: str, *, home: TrustDomain, now: datetime
) -> tuple[RuleVerdict, ...]:
    """Return what every rule says to a request, in file order; the arguments are those of `decide_request`.

    Takes some 20 us per rule: for people who asked, never on the loop.
    """
    return tuple(
        RuleVerdict(rule, policy.file, _first_failed(rule, caller, method, path, home=home, now=now))
        for rule in policy.rules
    )


def explain_connection(
    policy: Policy, caller: SpiffeId, *, home: TrustDomain, now: datetime
) -> tuple[RuleVerdict, ...]:
    """Return what every rule says to a connection (TCP mode), in file order; otherwise as `explain_request`.

    A rule that speaks of requests grants no connection (`decide_connection`): it stopped at the path.
    """

    def failed(rule: Rule) -> Condition | None:
        if not any(pattern.match(caller, home=home) for pattern in rule.callers):
            return Condition.CALLER
        if rule.is_http_only:
            return Condition.PATH
        return Condition.EXPIRY if rule.expired(now) else None

    return tuple(RuleVerdict(rule, policy.file, failed(rule)) for rule in policy.rules)


def _first_failed(
    rule: Rule, caller: SpiffeId, method: str, path: str, *, home: TrustDomain, now: datetime
) -> Condition | None:
    if not any(pattern.match(caller, home=home) for pattern in rule.callers):
        return Condition.CALLER
    if rule.paths is not None and not any(pattern.match(path) for pattern in rule.paths):
        return Condition.PATH
    if rule.methods is not None and method not in rule.methods:
        return Condition.METHOD
    return Condition.EXPIRY if rule.expired(now) else None


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
    return Nearest(rule, distance, f"{_named(rule, policy.file)} grants {_cut(pattern.text)}, {why}")


def nearest_rule_of_request(
    policy: Policy, caller: SpiffeId, method: str, path: str, *, home: TrustDomain, now: datetime
) -> Nearest | None:
    """Return the rule that came closest to granting a request; the arguments are those of `decide_request`.

    A rule that grants the caller something is nearer than any that does not: first one that grants it this very
    request but has expired, then one that grants it other methods on this path, then other paths. Where no rule grants
    the caller anything, the answer is that of `nearest_rule`.
    """
    patterns: Iterator[tuple[Rule, PathPattern | None]] = (
        (rule, pattern) for rule in policy.candidates(caller, home=home) for pattern in rule.paths or (None,)
    )
    segments = path.split("/")[1:] if path.startswith("/") else None
    misses = (
        (distance, rule, pattern)
        for rule, pattern in islice(patterns, MAX_PATTERNS)
        if (distance := _miss(rule, pattern, method, segments, now)) is not None
    )
    best = min(misses, key=lambda miss: miss[0], default=None)
    if best is None:
        return nearest_rule(policy, caller, home=home, now=now)
    distance, rule, pattern = best
    where = "any path" if pattern is None else _cut(pattern.text)
    if distance is Distance.EXPIRED:
        why = f"{where}, but expired {rule.expires:%Y-%m-%d %H:%M} UTC"
    elif distance is Distance.METHOD:
        why = f"{_cut(', '.join(rule.methods or ()))} on {where}, the request is {quote(method)}{_hint(rule, method)}"
    else:
        why = f"{where}, the request is for {quote(path)}: {_PHRASES[distance]}"
    return Nearest(rule, distance, f"{_named(rule, policy.file)} grants the caller {why}")


def _miss(
    rule: Rule, pattern: PathPattern | None, method: str, segments: list[str] | None, now: datetime
) -> Distance | None:
    """How one path pattern of a rule (None: any path) missed a request; None when it grants."""
    if pattern is not None:
        distance = None if segments is None else _distance(pattern.segments, segments)
        if distance is not Distance.EXPIRED:
            return _OF_PATH[distance]
    if rule.methods is not None and method not in rule.methods:
        return Distance.METHOD
    return Distance.EXPIRED if rule.expired(now) else None


def _hint(rule: Rule, method: str) -> str:
    granted = rule.methods or ()
    if method == "HEAD" and "GET" in granted:
        return ": GET does not imply HEAD"
    return ": methods are case-sensitive" if method.upper() in granted else ""


def _named(rule: Rule, file: str) -> str:
    return f'rule "{rule.name}" ({file}:{rule.line})'


def _distance(pattern: Segments, segments: list[str]) -> Distance | None:
    """How far a pattern is from the segments of a caller; EXPIRED when they match, None when they are unlike."""
    shares_a_segment = False
    misses: list[tuple[str, str]] = []
    for wanted, segment in zip(pattern.fixed, segments, strict=False):
        if wanted == segment:
            shares_a_segment = True
        elif wanted != ANY_SEGMENT or not segment:  # `*` is never empty
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
