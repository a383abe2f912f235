"""What is sound in an allow-list and yet probably not meant: found without asking anybody, told with its line.

An allow-list with findings works as it says; the faults that keep it from being loaded are `document`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from meshproxy.policy.ending import SOON
from meshproxy.policy.grants import EVERY_PATH, Grants, grants_of
from meshproxy.policy.regions import MOST_STEPS, Steps, TooIntricate, covers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.document import Document, Rule
    from meshproxy.policy.grants import Grant
    from meshproxy.policy.match import Segments

_MOST_STEPS: Final = 10 * MOST_STEPS  # of all rules of a list together
_RESERVED: Final = "meshproxy"  # nobody is issued /meshproxy/** but the CA's own services
_REFUSED_METHOD: Final = "CONNECT"  # refused with 405 before any rule (`http.target`)


class Code(StrEnum):
    """What kind of finding it is; stable, for programs and for leaving some out."""

    SHADOWED = "shadowed"
    DUPLICATE = "duplicate"
    NEVER_MATCHES = "never_matches"
    ANY_CALLER = "any_caller"
    ANY_REQUEST = "any_request"
    EXPIRED = "expired"
    EXPIRES_SOON = "expires_soon"
    NO_REASON = "no_reason"
    NO_OWNER = "no_owner"
    INTRICATE = "intricate"


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them: where, what was found, and what to do about it, each a phrase."""

    code: Code
    rule: Rule
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Strictness:
    """What is asked of every rule beyond making sense; nothing unless somebody wants it."""

    reason: bool = False
    owner: bool = False


def lint(
    document: Document, *, home: TrustDomain | None, now: datetime, strictness: Strictness = Strictness()
) -> Iterator[Finding]:
    """Yield what is found, rule by rule; `home` and `now` as for `grants_of`."""
    speaks_of_requests = any(rule.is_http_only for rule in document.rules)
    earlier = Grants()
    seen: dict[tuple[object, ...], Rule] = {}
    steps = Steps(_MOST_STEPS)
    for rule in document.rules:
        yield from _of_time(rule, now)
        yield from _of_reach(rule, speaks_of_requests=speaks_of_requests)
        yield from _never_matching(rule, home)
        yield from _of_form(rule, strictness)
        if not rule.expired(now):
            grants = tuple(grants_of((rule,), home=home, now=now))
            finding = _superfluous(rule, grants, earlier, seen, steps)
            if finding is not None:
                yield finding
            if finding is None or finding.code is Code.INTRICATE:  # else all it grants is among them already
                for grant in grants:
                    earlier.add(grant)


def _superfluous(
    rule: Rule, grants: Sequence[Grant], earlier: Grants, seen: dict[tuple[object, ...], Rule], steps: Steps
) -> Finding | None:
    says = (frozenset(rule.callers), rule.methods and frozenset(rule.methods), rule.paths and frozenset(rule.paths))
    same = seen.setdefault((*says, rule.expires), rule)
    if same is not rule:
        found = f"it grants just what rule {same.name!r} on line {same.line} grants"
        return Finding(Code.DUPLICATE, rule, found, "remove one of the two")
    try:
        if any(earlier.left_of(grant, steps=steps.at_most(MOST_STEPS)) is not None for grant in grants):
            return None
    except TooIntricate:
        return Finding(
            Code.INTRICATE,
            rule,
            "it overlaps with so many others that nobody can tell whether they grant all of it",
            "write the rules before it with fewer `*` in the same places",
        )
    by = {each.rule.line: each.rule for grant in grants for each in _granting_all(earlier, grant)}
    names = ", ".join(f"{each.name!r} (line {line})" for line, each in sorted(by.items())[:3])
    more = f" and {len(by) - 3} more" if len(by) > 3 else ""
    return Finding(
        Code.SHADOWED,
        rule,
        f"all it grants is granted before, by {names}{more}: it never decides",
        "remove it, or narrow those before it",
    )


def _granting_all(earlier: Grants, grant: Grant) -> Iterator[Grant]:
    """Who grants all of a grant: one alone where there is one, else all that grant a part."""
    alone = earlier.covering(grant)
    return earlier.overlapping(grant) if alone is None else iter((alone,))


def _of_time(rule: Rule, now: datetime) -> Iterator[Finding]:
    if rule.expires is None:
        return
    day = f"{rule.expires:%Y-%m-%d}"
    if rule.expired(now):
        yield Finding(Code.EXPIRED, rule, f"it expired on {day} and grants nothing", "remove it, or extend `expires`")
    elif rule.expires - now <= SOON:
        left = rule.expires - now
        words = f"{left.days} days" if left.days > 1 else "less than two days"
        yield Finding(Code.EXPIRES_SOON, rule, f"it expires on {day}, in {words}", "extend `expires`, or let it end")


def _of_reach(rule: Rule, *, speaks_of_requests: bool) -> Iterator[Finding]:
    for pattern in rule.callers:
        if covers(pattern.segments, EVERY_PATH):
            whose = "the own trust domain" if pattern.trust_domain is None else str(pattern.trust_domain)
            yield Finding(
                Code.ANY_CALLER,
                rule,
                f"{pattern.text!r} is every identity of {whose}, also those that do not exist yet",
                "name who needs it",
            )
    if not speaks_of_requests:
        return  # a list for connections, as far as anybody can tell
    any_path = rule.paths is None or any(covers(pattern.segments, EVERY_PATH) for pattern in rule.paths)
    if any_path and rule.methods is None:
        yield Finding(
            Code.ANY_REQUEST,
            rule,
            "it grants every method on every path",
            "name `paths`, and `methods` if they are few",
        )


def _never_matching(rule: Rule, home: TrustDomain | None) -> Iterator[Finding]:
    for pattern in rule.callers:
        own = pattern.trust_domain is None or pattern.trust_domain == home
        if own and _is_reserved(pattern.segments):
            found = f"{pattern.text!r} names nobody: /{_RESERVED}/** is issued to no service"
            yield Finding(Code.NEVER_MATCHES, rule, found, "remove it")
    if rule.methods is not None and _REFUSED_METHOD in rule.methods:
        found = f"{_REFUSED_METHOD} is refused before any rule is asked"
        yield Finding(Code.NEVER_MATCHES, rule, found, "remove it from `methods`")


def _is_reserved(segments: Segments) -> bool:
    return segments.fixed[:1] == (_RESERVED,)


def _of_form(rule: Rule, strictness: Strictness) -> Iterator[Finding]:
    if strictness.reason and not rule.reason:
        yield Finding(Code.NO_REASON, rule, "it does not say why it is there", 'add reason = "..."')
    if strictness.owner and not rule.owner:
        yield Finding(Code.NO_OWNER, rule, "it does not say who answers for it", 'add owner = "..."')


def left_out(findings: Iterator[Finding], codes: Collection[Code]) -> Iterator[Finding]:
    """Yield those of other kinds than `codes`."""
    return (each for each in findings if each.code not in codes)
