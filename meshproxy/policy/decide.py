"""The decision, and the permit that proves it was asked for.

Everything that forwards takes a `Permit` as an argument, and only `permit` makes one, so forwarding without asking
does not type-check.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule


class Reason(StrEnum):
    """Why a decision fell as it did; the `reason` label of `meshproxy_authz_decisions_total`."""

    GRANTED = "granted"
    NO_RULE = "no_rule"
    METHOD = "method"
    PATH = "path"
    EXPIRED_GRANT = "expired_grant"


class Mode(StrEnum):
    """What a listener does with a denial: refuse, or let pass and log what it would have refused."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Outcome(StrEnum):
    """What became of a decision in its mode; the `decision` label of `meshproxy_authz_decisions_total`."""

    ALLOW = "allow"
    DENY = "deny"
    WOULD_DENY = "would_deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the allow-list says about one caller; `rule` is the one that granted, None when none did."""

    reason: Reason
    rule: Rule | None
    file: str
    generation: int

    def __post_init__(self) -> None:
        if (self.reason is Reason.GRANTED) != (self.rule is not None):
            raise ValueError("a decision grants by a rule, and denies without one")

    @property
    def granted(self) -> bool:
        """Whether a rule granted."""
        return self.rule is not None

    def outcome(self, mode: Mode) -> Outcome:
        """Return the word for metrics and logs, given the listener's mode."""
        if self.granted:
            return Outcome.ALLOW
        return Outcome.WOULD_DENY if mode is Mode.AUDIT else Outcome.DENY


_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof that forwarding was asked for and may go on; only `permit` makes one.

    `would_deny` marks a denial that an audit-mode listener lets pass.
    """

    decision: Decision
    would_deny: bool
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Permit is made by meshproxy.policy.decide.permit only")


def decide_connection(policy: Policy, caller: SpiffeId, *, home: TrustDomain, now: datetime) -> Decision:
    """Decide whether `caller` may connect in TCP mode; `home` is the own trust domain, `now` is aware.

    The first rule in file order that grants decides. An expired rule does not grant, and is named as the reason when
    nothing else does.
    """
    reason = Reason.NO_RULE
    for rule in policy.candidates(caller, home=home):
        if rule.is_http_only:
            # Loading refuses such a rule on a tcp listener; were it here, granting would drop its conditions.
            continue
        if not rule.expired(now):
            return Decision(Reason.GRANTED, rule, policy.file, policy.generation)
        reason = Reason.EXPIRED_GRANT
    return Decision(reason, None, policy.file, policy.generation)


def permit(decision: Decision, mode: Mode) -> Permit | None:
    """Turn a decision into leave to forward under `mode`, or None: then not one byte may pass."""
    if decision.outcome(mode) is Outcome.DENY:
        return None
    return Permit(decision, would_deny=not decision.granted, seal=_SEAL)
