"""A candidate run over recorded decisions: which of them would fall differently, grouped, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshproxy.policy.decide import decide_connection, decide_request
from meshproxy.policy.learning import generalised

if TYPE_CHECKING:
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.records import Record

MOST_GROUPS: Final = 10_000  # a log of a million strangers must not fill the memory
_MOST_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Group:
    """Decisions that would change alike: who, for what, what was decided, and what would be.

    `request` has `*` in the place of what looks like an identifier, as in `learning`.
    """

    caller: str
    request: tuple[str, str] | None
    was_allowed: bool
    rule_then: str
    rule_now: str  # empty: none
    reason: str


@dataclass(slots=True)
class Replay:
    """What has come of it so far. `ungrouped`: changes beyond what is kept apart."""

    policy: Policy
    home: TrustDomain
    now: datetime
    decided: int = 0
    changed: int = 0
    passed_over: int = 0  # lines that tell no decision, or of no identity
    refused: int = 0  # of those that were let pass then, in audit mode too
    ungrouped: int = 0
    groups: dict[Group, int] = field(default_factory=dict)
    _identities: dict[str, SpiffeId | None] = field(default_factory=dict, repr=False)

    def take(self, record: Record) -> None:
        """Decide one again."""
        caller = self._identity(record) if record.is_decision else None
        if caller is None:
            self.passed_over += 1
            return
        self.decided += 1
        request = record.request
        if request is None:
            decision = decide_connection(self.policy, caller, home=self.home, now=self.now)
        else:
            decision = decide_request(self.policy, caller, *request, home=self.home, now=self.now)
        self.refused += record.was_let_pass and not decision.granted
        if decision.granted == record.was_allowed:
            return
        self.changed += 1
        rule = decision.rule.name if decision.rule else ""
        kind = None if request is None else (request[0], generalised(request[1]))
        group = Group(record.caller, kind, record.was_allowed, record.rule, rule, decision.reason.value)
        if group in self.groups or len(self.groups) < MOST_GROUPS:
            self.groups[group] = self.groups.get(group, 0) + 1
        else:
            self.ungrouped += 1

    def _identity(self, record: Record) -> SpiffeId | None:
        """Who called; callers come again, and reading one takes as long as deciding."""
        if record.caller not in self._identities:
            if len(self._identities) >= _MOST_REMEMBERED:
                self._identities.clear()
            try:
                self._identities[record.caller] = record.identity()
            except ValueError:
                self._identities[record.caller] = None
        return self._identities[record.caller]
