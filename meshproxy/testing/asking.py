"""What an allow-list says, as an assertion: by the evaluator that runs in a sidecar, without one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ca.spiffe_id import SCHEME, SpiffeId, TrustDomain, complete
from meshproxy.policy.cases import NOBODYS, Case, decide_case, judged_request
from meshproxy.policy.decide import Reason
from meshproxy.policy.explain import nearest_rule, nearest_rule_of_request
from meshproxy.testing.fault import MeshError
from meshproxy.testing.lists import read_list

if TYPE_CHECKING:
    from meshproxy.policy.cases import Outcome
    from meshproxy.policy.compile import Policy
    from meshproxy.testing.lists import PolicySource


def assert_allowed(
    policy: PolicySource,
    *,
    from_: str,
    method: str | None = None,
    path: str | None = None,
    rule: str | None = None,
    at: datetime | None = None,
    trust_domain: str | None = None,
) -> None:
    """Assert that `policy` (a Path, or the text itself) lets `from_` in, by `rule` if that is named.

    Without method and path it is asked about a connection. `at` is when (default: now), `trust_domain` what short
    identities belong to, needed only where full ones are in play. Raises MeshError for what cannot be asked.
    """
    _ask(policy, from_, method, path, allowed=True, rule=rule, at=at, trust_domain=trust_domain)


def assert_denied(
    policy: PolicySource,
    *,
    from_: str,
    method: str | None = None,
    path: str | None = None,
    reason: str | None = None,
    at: datetime | None = None,
    trust_domain: str | None = None,
) -> None:
    """Assert that `policy` keeps `from_` out, for `reason` if that is named; the rest as in `assert_allowed`.

    Reasons are `no_rule`, `path`, `method` and `expired_grant`.
    """
    denials = {each.value: each for each in Reason if each is not Reason.GRANTED}
    if reason is not None and reason not in denials:
        raise MeshError(f"{reason!r} is no reason for a denial; there are {', '.join(denials)}")
    why = None if reason is None else denials[reason]
    _ask(policy, from_, method, path, allowed=False, reason=why, at=at, trust_domain=trust_domain)


def explained(outcome: Outcome, policy: Policy, *, now: datetime) -> str:
    """Return what is wrong with an outcome, and which rule came nearest where none has granted."""
    case, at = outcome.case, outcome.case.at or now
    told = f"{case}: {outcome.fault}"
    if outcome.decision is None or outcome.decision.granted:
        return told
    if case.request is None:
        nearest = nearest_rule(policy, case.caller, home=case.home, now=at)
    else:
        nearest = nearest_rule_of_request(policy, case.caller, *judged_request(*case.request), home=case.home, now=at)
    return f"{told}\nnearest: {nearest}" if nearest else f"{told}\nno rule comes near"


def _ask(
    policy: PolicySource,
    caller: str,
    method: str | None,
    path: str | None,
    *,
    allowed: bool,
    at: datetime | None,
    trust_domain: str | None,
    rule: str | None = None,
    reason: Reason | None = None,
) -> None:
    __tracebackhide__ = True
    if (method is None) != (path is None):
        raise MeshError("a request has both `method` and `path`, a connection neither")
    request = None if method is None or path is None else (method, path)
    home, identity = _identity(caller, trust_domain)
    compiled = read_list(policy, tcp="the listener asked about" if request is None else None)
    now = at or datetime.now(UTC)
    case = Case(compiled.file, 0, compiled.file, identity, home, request, allowed, rule, reason, at)
    outcome = decide_case(case, compiled, now=now)
    if outcome.fault:
        raise AssertionError(explained(outcome, compiled, now=now))


def _identity(caller: str, trust_domain: str | None) -> tuple[TrustDomain, SpiffeId]:
    try:
        home = NOBODYS if trust_domain is None else TrustDomain.parse(trust_domain)
        if trust_domain is None and caller.startswith(SCHEME):
            home = SpiffeId.parse(caller).trust_domain
        return home, complete(caller, home)
    except ValueError as error:
        raise MeshError(f"{caller!r} is no identity such as /web, or spiffe://example.org/web: {error}") from None
