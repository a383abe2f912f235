from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import Decision, Mode, Outcome, Permit, Reason, decide_connection, permit
from meshproxy.policy.document import parse_allow_list

HOME = TrustDomain("example.org")
NOW = datetime(2026, 11, 1, tzinfo=UTC)

LIST = """
[[allow]]
name = "old"
from = ["/web", "/gone"]
expires = 2026-11-01

[[allow]]
name = "first"
from = "/web"

[[allow]]
name = "second"
from = ["/web", "/batch/*", "spiffe://partner.net/web"]

[[allow]]
name = "soon"
from = "/soon"
expires = 2026-11-01T00:00:01Z

[[allow]]
name = "requests"
from = "/api"
methods = "GET"
"""


def policy(text: str = LIST) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="x.allow.toml"), generation=3)


def decide(caller: str, now: datetime = NOW, text: str = LIST) -> Decision:
    return decide_connection(policy(text), SpiffeId.parse(caller), home=HOME, now=now)


@pytest.mark.parametrize(
    ("caller", "reason", "rule"),
    [
        ("spiffe://example.org/web", Reason.GRANTED, "first"),
        ("spiffe://example.org/batch/7", Reason.GRANTED, "second"),
        ("spiffe://partner.net/web", Reason.GRANTED, "second"),
        ("spiffe://partner.net/batch/7", Reason.NO_RULE, None),
        ("spiffe://example.org/gone", Reason.EXPIRED_GRANT, None),
        ("spiffe://example.org/soon", Reason.GRANTED, "soon"),
        ("spiffe://example.org/api", Reason.NO_RULE, None),  # its conditions cannot be judged on a connection
        ("spiffe://example.org/Web", Reason.NO_RULE, None),
        ("spiffe://example.org", Reason.NO_RULE, None),
    ],
)
def test_the_first_granting_rule_in_file_order_decides(caller: str, reason: Reason, rule: str | None) -> None:
    decision = decide(caller)
    assert (decision.reason, decision.rule and decision.rule.name) == (reason, rule)
    assert decision.granted is (rule is not None)
    assert (decision.file, decision.generation) == ("x.allow.toml", 3)


def test_a_grant_ends_at_its_instant() -> None:
    before = NOW - timedelta(microseconds=1)
    assert decide("spiffe://example.org/gone", now=before).granted
    assert decide("spiffe://example.org/web", now=before).rule is not None
    assert decide("spiffe://example.org/soon", now=NOW + timedelta(seconds=1)).reason is Reason.EXPIRED_GRANT


def test_an_empty_list_grants_nobody() -> None:
    assert decide("spiffe://example.org/web", text="allow = []").reason is Reason.NO_RULE


@pytest.mark.parametrize(
    ("caller", "mode", "outcome", "would_deny"),
    [
        ("spiffe://example.org/web", Mode.ENFORCE, Outcome.ALLOW, False),
        ("spiffe://example.org/web", Mode.AUDIT, Outcome.ALLOW, False),
        ("spiffe://example.org/nobody", Mode.ENFORCE, Outcome.DENY, None),
        ("spiffe://example.org/nobody", Mode.AUDIT, Outcome.WOULD_DENY, True),
    ],
)
def test_only_a_grant_or_an_audit_gives_a_permit(
    caller: str,
    mode: Mode,
    outcome: Outcome,
    would_deny: bool | None,  # noqa: FBT001
) -> None:
    decision = decide(caller)
    leave = permit(decision, mode)
    assert decision.outcome(mode) is outcome
    assert (leave and leave.would_deny) == would_deny
    assert leave is None or leave.decision is decision


def test_a_permit_cannot_be_made_by_hand_or_altered() -> None:
    decision = decide("spiffe://example.org/nobody")
    with pytest.raises(TypeError, match="made by meshproxy"):
        Permit(decision, would_deny=False, seal=object())
    leave = permit(decision, Mode.AUDIT)
    assert leave is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        leave.would_deny = False  # type: ignore[misc]
    with pytest.raises((ValueError, TypeError), match="seal"):  # which of them depends on Python's version
        dataclasses.replace(leave, would_deny=False)  # type: ignore[call-arg]


def test_a_decision_cannot_contradict_itself() -> None:
    with pytest.raises(ValueError, match="grants by a rule"):
        Decision(Reason.GRANTED, None, "f", 1)
    with pytest.raises(ValueError, match="grants by a rule"):
        Decision(Reason.NO_RULE, policy().rules[0], "f", 1)


def test_the_words_are_those_of_the_metrics() -> None:
    assert [str(word) for word in Outcome] == ["allow", "deny", "would_deny"]
    assert [str(word) for word in Reason] == ["granted", "no_rule", "method", "path", "expired_grant"]
    assert [str(word) for word in Mode] == ["enforce", "audit"]
