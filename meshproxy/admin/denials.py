"""A refusal made a row that a person can act on: what was asked, the rule that came nearest, the edit that grants it.

Looks at every rule of a list on the word of whoever was refused: in a thread, and for as many rows as are shown.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from ca.spiffe_id import SpiffeId
from meshproxy.policy.decide import Condition, decide_connection, decide_request
from meshproxy.policy.edit import smallest_edit
from meshproxy.policy.explain import Distance, nearest_rule, nearest_rule_of_request

if TYPE_CHECKING:
    from datetime import datetime

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.edit import Edit
    from meshproxy.policy.explain import Nearest
    from meshproxy.telemetry.denials import Refused

_MOST_KEPT: Final = 512
_FAILED: Final = {
    Distance.EXPIRED: Condition.EXPIRY,
    Distance.METHOD: Condition.METHOD,
    Distance.PATH_CASE: Condition.PATH,
    Distance.PATH_SEGMENT: Condition.PATH,
    Distance.PATH_LENGTH: Condition.PATH,
    Distance.PATH: Condition.PATH,
}


class NearestRule(msgspec.Struct, frozen=True):
    """The rule that came nearest; `failed` is what it asks and did not get: caller, path, method or expiry."""

    rule: str
    file: str
    line: int
    failed: str


class Explained(msgspec.Struct, frozen=True):
    """What is said of a refusal beside the facts."""

    nearest: NearestRule | None
    explanation: str
    edit: str


class DenialRow(msgspec.Struct, frozen=True):
    """One row of /denials; times in seconds since 1970."""

    at: float
    last: float
    count: int
    listener: str
    outcome: str
    principal: str
    method: str
    path: str
    reason: str
    nearest: NearestRule | None
    explanation: str
    edit: str


class Explainer:
    """Explains refusals; what was explained is known until the allow-list changes, the last 512 of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], Explained] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Explainer knows {len(self._known)}>"

    def row(self, refused: Refused, policy: Policy | None, *, home: TrustDomain, now: datetime) -> DenialRow:
        """Return the row of a refusal; `policy` is what its listener judges by at `now`, None if that is gone."""
        method, _, path = refused.asked.partition(" ")
        if policy is None:
            said = Explained(None, f'there is no listener "{refused.listener}" any more', "")
        else:
            key = (*refused.key, policy.content_hash, policy.unchanged_until(now))
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = explained(refused, policy, home=home, now=now)
                while len(self._known) > _MOST_KEPT:
                    self._known.popitem(last=False)
            said = found
        return DenialRow(
            at=refused.first,
            last=refused.last,
            count=refused.count,
            listener=refused.listener,
            outcome=refused.outcome,
            principal=refused.caller,
            method=method,
            path=path,
            reason=refused.reason,
            nearest=said.nearest,
            explanation=said.explanation,
            edit=said.edit,
        )


def explained(refused: Refused, policy: Policy, *, home: TrustDomain, now: datetime) -> Explained:
    """Explain a refusal by the allow-list as it is at `now`; `home` is the own trust domain."""
    try:
        caller = SpiffeId.parse(refused.caller)
    except ValueError:
        return Explained(None, f"{refused.caller!a} is no SPIFFE ID, so no rule can name it", "")
    method, space, path = refused.asked.partition(" ")
    asked = (method, path) if space else None
    nearest: Nearest | None
    if asked is None:
        decision = decide_connection(policy, caller, home=home, now=now)
        nearest = nearest_rule(policy, caller, home=home, now=now)
    else:
        decision = decide_request(policy, caller, *asked, home=home, now=now)
        nearest = nearest_rule_of_request(policy, caller, *asked, home=home, now=now)
    if decision.rule is not None:
        rule = decision.rule
        return Explained(
            None, f'it is granted by now, by rule "{rule.name}" ({policy.file}:{rule.line}); nothing is to be done', ""
        )
    edit = smallest_edit(policy, caller, asked, nearest, home=home, now=now)
    who = caller.path if caller.trust_domain == home else str(caller)
    what = f"{method} {path}" if asked else "a connection"
    near = f"the nearest: {nearest}" if nearest else f"no rule of {policy.file} comes near"
    return Explained(_named(nearest, policy), f"{who} asked for {what}, which no rule grants; {near}", _written(edit))


def _named(nearest: Nearest | None, policy: Policy) -> NearestRule | None:
    if nearest is None:
        return None
    failed = _FAILED.get(nearest.distance, Condition.CALLER)
    return NearestRule(nearest.rule.name, policy.file, nearest.rule.line, failed.name.lower())


def _written(edit: Edit | None) -> str:
    if edit is None:
        return ""
    place = f'# in place of rule "{edit.replaces.name}"' if edit.replaces else "# anywhere in the file"
    return f"{place}; grants {edit.effect}\n{edit.text}"
