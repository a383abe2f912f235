"""What an allow-list is expected to say, written down: who asks for what, and whether it is let in and by which rule.

policy = "api.allow.toml"          # relative to this file; a [[case]] may name another
trust_domain = "mesh.local"        # of short identities; needed only where full ones are in play
at = 2027-01-01                    # the time it is asked; a case may name another; left out: now

[[case]]
from = "/web"
method = "GET"                     # with path; both left out: a connection (tcp)
path = "/orders/7"
expect = "allow"                   # or "deny"
rule = "web-reads"                 # optional: the rule that must decide
reason = "method"                  # optional: why it must be denied
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ca.spiffe_id import SpiffeId, TrustDomain, complete
from meshproxy.http.guard import TOKEN
from meshproxy.http.head import BadMessage
from meshproxy.http.target import parse_target
from meshproxy.policy.decide import Decision, Reason, decide_connection, decide_request
from meshproxy.policy.document import instant
from meshproxy.toml import Judge, parse_toml, quote, string, written

if TYPE_CHECKING:
    from datetime import datetime

    from meshproxy.policy.compile import Policy
    from meshproxy.toml import Table

NOBODYS: Final = TrustDomain("trust-domain.invalid")  # RFC 2606: of short identities where nobody names theirs
_METHOD: Final = re.compile(TOKEN.decode())
_EXPECTED: Final = {"allow": True, "deny": False}
_DENIALS: Final = {reason.value: reason for reason in Reason if reason is not Reason.GRANTED}


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation; `request` is method and path as they are sent, None for a connection."""

    file: str
    line: int
    policy: str  # as it is written
    caller: SpiffeId
    home: TrustDomain
    request: tuple[str, str] | None
    allowed: bool
    rule: str | None = None
    reason: Reason | None = None
    at: datetime | None = None

    def __str__(self) -> str:
        who = self.caller.path if self.caller.trust_domain == self.home else str(self.caller)
        return who if self.request is None else f"{who} {' '.join(self.request)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case; `fault` is a phrase, empty when all is as expected."""

    case: Case
    decision: Decision | None  # None: it was refused before any rule was asked
    fault: str


def read_cases(content: bytes, *, file: str) -> tuple[Case, ...]:
    """Read a file of cases that the user knows as `file`; raises FaultyInput with every problem in it."""
    judge = Judge(parse_toml(content, file=file))
    root = judge.root
    policy = root.take("policy", string, "", like='"api.allow.toml"')
    home = root.take("trust_domain", written(_domain), NOBODYS, like='"mesh.local"')
    at = root.take("at", instant, None, like="2027-01-01")
    tables = root.tables("case")
    if not tables and "case" not in root:
        root.problem(
            found="no [[case]]", expected="at least one", remedy="Add [[case]] with `from` and `expect` below it"
        )
    cases = [_case(table, policy, home, at, file) for table in tables]
    judge.verdict()
    return tuple(case for case in cases if case is not None)


def decide_case(case: Case, policy: Policy, *, now: datetime) -> Outcome:
    """Ask `policy`, as a sidecar does: some requests are refused before any rule is asked, and so denied by none."""
    at = case.at or now
    if case.request is None:
        decision = decide_connection(policy, case.caller, home=case.home, now=at)
        return Outcome(case, decision, _fault(case, decision))
    try:
        judged = judged_request(*case.request)
    except BadMessage as bad:
        expected = case.allowed or case.rule is not None or case.reason is not None
        return Outcome(case, None, f"refused before any rule is asked: {bad.detail}" if expected else "")
    decision = decide_request(policy, case.caller, *judged, home=case.home, now=at)
    return Outcome(case, decision, _fault(case, decision))


def judged_request(method: str, path: str) -> tuple[str, str]:
    """Return a request as rules are asked about it; raises BadMessage for one that is refused before.

    Bytes that are not UTF-8 may be given as Python's surrogate escapes (PEP 383), as arguments of a command are.
    """
    if not _METHOD.fullmatch(method):
        raise BadMessage(400, "the method is no token (RFC 9110 section 5.6.2)")
    return method, parse_target(method.encode(), path.encode(errors="surrogateescape")).path.decode("ascii")


def _fault(case: Case, decision: Decision) -> str:
    said = f"allowed by {decision.rule.name!r} ({decision.place})" if decision.rule else f"denied ({decision.reason})"
    if decision.granted != case.allowed:
        return f"{said}, expected {'allowed' if case.allowed else 'denied'}"
    if case.rule is not None and (decision.rule is None or decision.rule.name != case.rule):
        return f"{said}, expected rule {case.rule!r} to decide"
    if case.reason is not None and decision.reason is not case.reason:
        return f"{said}, expected {case.reason} as the reason"
    return ""


def _case(table: Table, policy: str, home: TrustDomain, at: datetime | None, file: str) -> Case | None:
    named = table.take("policy", string, policy, like='"api.allow.toml"')
    if not named:
        table.problem(
            found="no `policy`, here or above",
            expected="which allow-list is asked",
            remedy='Add `policy = "api.allow.toml"`',
        )
    caller = table.require("from", written(lambda text: _identity(text, home)), like='"/web"')
    method = table.take("method", string, None, like='"GET"')
    path = table.take("path", string, None, like='"/orders/7"')
    if (method is None) != (path is None):
        table.problem(
            found="one of `method` and `path` alone",
            expected="both for a request, neither for a connection",
            remedy="Add the other",
        )
    allowed = table.require("expect", written(_expectation), like='"allow"')
    rule = table.take("rule", string, None, like='"web-reads"')
    reason = table.take("reason", written(_denial), None, like='"method"')
    if allowed is not None and (rule if not allowed else reason) is not None:
        key = "rule" if not allowed else "reason"
        table.problem(
            key,
            found=f"`{key}` where {quote('allow' if allowed else 'deny')} is expected",
            expected="`rule` with allow, `reason` with deny: no rule denies, and what is allowed needs no reason",
            remedy=f"Remove `{key}`",
        )
    moment = table.take("at", instant, at, like="2027-01-01")
    if caller is None or allowed is None:
        return None
    request = None if method is None or path is None else (method, path)
    return Case(file, table.place_of().line, named, caller, home, request, allowed, rule, reason, moment)


def _domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except ValueError:
        raise ValueError("a trust domain such as mesh.local") from None


def _identity(text: str, home: TrustDomain) -> SpiffeId:
    try:
        return complete(text, home)
    except ValueError:
        raise ValueError("an identity such as /web, or a full spiffe://example.org/web") from None


def _expectation(text: str) -> bool:
    if text not in _EXPECTED:
        raise ValueError('"allow" or "deny"')
    return _EXPECTED[text]


def _denial(text: str) -> Reason:
    if text not in _DENIALS:
        raise ValueError(f"one of {', '.join(_DENIALS)}")
    return _DENIALS[text]
