"""Whether an allow-list may have been read while it was being written.

TOML that is cut off between `from` and a narrowing key behind it is still TOML, and grants more than was meant. Only
the last rule of a file can be cut like that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule

_Grant = tuple[object, ...]


def looks_cut_short(old: Policy | None, new: Policy, *, http: bool) -> Rule | None:
    """Return the last rule of `new` if a key that would narrow it may be missing, or None.

    On an HTTP listener that is a rule without `methods` or without `paths`; on any listener, one that had `expires` in
    `old` and has none now. A rule that `old` has just so is meant so. A new rule that lost nothing but its `expires`
    cannot be told from a whole one.
    """
    if not new.rules:
        return None
    last, before = new.rules[-1], () if old is None else old.rules
    if any(_grant_of(rule) == _grant_of(last) for rule in before):
        return None
    lost_requests = http and (last.methods is None or last.paths is None)
    lost_expiry = last.expires is None and any(_endless(rule) == _endless(last) for rule in before)
    return last if lost_requests or lost_expiry else None


def has_lost_conditions(old: Policy | None, last: Rule) -> bool:
    """Whether `last` is known from `old`, by its name or its callers, and grants there what conditions still narrowed.

    That is what a file cut for good looks like, by a full disk or a killed writer; no waiting makes it whole.
    """
    before = () if old is None else old.rules
    named = last.name != f"rule-{last.ordinal}"  # the default name says only where a rule stands
    return any(
        (rule.callers == last.callers or (named and rule.name == last.name))
        and (
            (rule.methods is not None and last.methods is None)
            or (rule.paths is not None and last.paths is None)
            or (rule.expires is not None and last.expires is None)
        )
        for rule in before
    )


def _grant_of(rule: Rule) -> _Grant:
    return (rule.callers, rule.methods, rule.paths, rule.expires)


def _endless(rule: Rule) -> _Grant:
    return _grant_of(replace(rule, expires=None))
