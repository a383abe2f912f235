"""The smallest edit of an allow-list that would grant what was denied, and what else it would grant: nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from meshproxy.policy.document import Rule
from meshproxy.policy.document import method as as_rules_name_it
from meshproxy.policy.explain import Distance
from meshproxy.policy.grants import Grants, grants_of, of_like_callers
from meshproxy.policy.match import IdentityPattern, PathPattern
from meshproxy.policy.regions import TooIntricate
from meshproxy.policy.written import rule_text

if TYPE_CHECKING:
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.explain import Nearest

_AGAIN: Final = timedelta(days=30)  # how long a grant that has expired is proposed anew
_FILL_IN: Final = '# reason = "why"\n# owner = "who answers for it"\n'


@dataclass(frozen=True, slots=True)
class Edit:
    """What to write: `text` is TOML, in the place of the rule `replaces`, or (None) anywhere in the file."""

    text: str
    replaces: Rule | None
    effect: str  # a phrase: what it grants


def smallest_edit(
    policy: Policy,
    caller: SpiffeId,
    asked: tuple[str, str] | None,
    nearest: Nearest | None,
    *,
    home: TrustDomain,
    now: datetime,
) -> Edit | None:
    """Return the edit that grants what was denied to `caller`: `asked` is method and judged path, None a connection.

    One line in the nearest rule, if that grants nothing else; else a rule of its own. None when no rule names just
    this, as a segment `*` in the path, or the method `get`: there a person must decide how much to grant.
    """
    exact = _exact(caller, asked, len(policy.rules) + 1, home=home)
    if exact is None:
        return None
    if nearest is not None and nearest.distance is Distance.EXPIRED:
        again = (now + _AGAIN).replace(hour=0, minute=0, second=0, microsecond=0)
        renewed = replace(nearest.rule, expires=again)
        return Edit(rule_text(renewed), nearest.rule, f"what the rule granted before, until {again:%Y-%m-%d}")
    if nearest is not None and asked is not None and not nearest.rule.expired(now):
        widened = _widened(nearest, *asked)
        if widened is not None and _grants_no_more(policy, widened, exact, home=home, now=now):
            until = f", until {widened.expires:%Y-%m-%d}" if widened.expires else ""
            return Edit(rule_text(widened), nearest.rule, f"this, and nothing else{until}")
    return Edit(rule_text(exact) + _FILL_IN, None, "this, and nothing else")


def _exact(caller: SpiffeId, asked: tuple[str, str] | None, ordinal: int, *, home: TrustDomain) -> Rule | None:
    text = caller.path if caller.trust_domain == home else str(caller)
    callers = (IdentityPattern.parse(text),)
    if asked is None:
        return Rule(f"rule-{ordinal}", ordinal, 0, callers)
    method, path = asked
    try:
        as_rules_name_it(method)
        pattern = PathPattern.parse(path)
    except ValueError:
        return None
    if pattern.segments.open_ended or "*" in pattern.segments.fixed:
        return None
    return Rule(f"rule-{ordinal}", ordinal, 0, callers, (method,), (pattern,))


def _widened(nearest: Nearest, method: str, path: str) -> Rule | None:
    """The nearest rule with one more method or path; None where it is the caller that it does not grant."""
    rule = nearest.rule
    if nearest.distance is Distance.METHOD and rule.methods is not None:
        return replace(rule, methods=(*rule.methods, method))
    of_path = (Distance.PATH_CASE, Distance.PATH_SEGMENT, Distance.PATH_LENGTH, Distance.PATH)
    if nearest.distance in of_path and rule.paths is not None:
        if rule.methods is not None and method not in rule.methods:
            return None
        return replace(rule, paths=(*rule.paths, PathPattern.parse(path)))
    return None


def _grants_no_more(policy: Policy, widened: Rule, exact: Rule, *, home: TrustDomain, now: datetime) -> bool:
    written = tuple(grants_of((widened,), home=home, now=now))
    meant = Grants(of_like_callers(grants_of((*policy.rules, exact), home=home, now=now), written))
    try:
        return all(meant.left_of(grant) is None for grant in written)
    except TooIntricate:
        return False
