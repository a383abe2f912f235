"""The judge of a caller's requests: what it remembers of a caller changes no answer."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MethodType

import pytest

from ca.spiffe_id import SpiffeId, TrustDomain
from ca.svid import Leaf
from meshproxy.http.codec import RequestReader
from meshproxy.http.head import HeadLimits, RequestHead
from meshproxy.http.terms import Grant, Refusal
from meshproxy.inbound.authorize import Authorizer, _CallersJudge
from meshproxy.inbound.visit import Visit
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import Mode
from meshproxy.policy.document import parse_allow_list
from meshproxy.settings.schema import Inbound, Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.address import TcpAddress
from tests.hearing import listening_log

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
HOME = TrustDomain("mesh.test")


def request(target: str = "/", method: str = "GET") -> RequestHead:
    reader = RequestReader(HeadLimits())
    reader.feed(f"{method} {target} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


def policy_of(text: str, generation: int = 1) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="x.allow.toml"), generation=generation)


class Court:
    """The judge of /web's requests, with what it is made of."""

    def __init__(self, text: str) -> None:
        here = TcpAddress("127.0.0.1", 0)
        self.now = UNTIL - timedelta(hours=12)
        self.settings = Inbound("api", here, here, Protocol.HTTP, Path("x.allow.toml"))
        self.metrics = Metrics()
        self.log, self.heard = listening_log()
        recorder = Recorder(self.metrics, self.log, lambda _line: None, lambda: 0.0)
        self.authorizer = Authorizer(self.settings, Snapshot(policy_of(text)), recorder)
        leaf = Leaf(SpiffeId(HOME, "/web"), 1, "00", UNTIL - timedelta(days=1), UNTIL)
        visit = Visit("api", "inbound", "127.0.0.1:1", caller=str(leaf.id))
        self.judge = self.authorizer.judge_of(visit, leaf, home=HOME, wall=lambda: self.now)

    def ask(self, target: str = "/", method: str = "GET") -> str:
        """The rule that granted, or `!` and the reason for which none did; `?` if it was let pass all the same."""
        answer = self.judge(request(target, method), b"1")
        decided = answer.decided
        assert decided is not None
        assert decided.caller == "spiffe://mesh.test/web"
        if isinstance(answer, Grant):
            assert answer.client_id == b"spiffe://mesh.test/web"
            return decided.rule or "?" + decided.reason
        return "!" + decided.reason

    def counted(self) -> dict[tuple[str, ...], float]:
        return {labels[1:]: number.value for labels, number in self.metrics.authz_decisions.numbers()}


@pytest.fixture
async def court() -> Court:
    return Court(LIST)


LIST = """
[[allow]]
name = "reads"
from = "/web"
methods = "GET"
paths = "/docs/**"

[[allow]]
name = "short"
from = "/*"
paths = "/once"
expires = 2026-10-31T18:00:00Z
"""


@pytest.mark.parametrize(("later", "kind"), [(timedelta(0), Grant), (timedelta(seconds=1), Refusal)])
async def test_a_caller_whose_certificate_has_run_out_is_refused(court: Court, later: timedelta, kind: type) -> None:
    """Deadlines run on a clock that stands still in a suspended machine."""
    assert court.ask("/docs") == "reads"
    court.now = UNTIL + later
    assert isinstance(court.judge(request("/docs"), b"1"), kind)


async def test_each_request_is_judged_and_counted(court: Court) -> None:
    for _ in range(3):
        assert court.ask("/docs/a") == "reads"
        assert court.ask("/else") == "!path"
        assert court.ask("/docs/b", "PUT") == "!method"
    assert court.counted() == {
        ("allow", "reads", "enforce", "granted"): 3,
        ("deny", "", "enforce", "path"): 3,
        ("deny", "", "enforce", "method"): 3,
    }
    assert [event["reason"] for event in court.heard.named("denied")] == ["path", "method"] * 3


async def test_a_rule_that_expires_in_between_grants_no_more(court: Court) -> None:
    assert court.ask("/once") == "short"
    court.now = datetime(2026, 10, 31, 18, tzinfo=UTC)
    assert court.ask("/once") == "!expired_grant"


async def test_who_asks_for_the_same_again_is_judged_by_the_clock_of_the_moment_wherever_that_jumps(
    court: Court,
) -> None:
    before, after = court.now, datetime(2026, 10, 31, 18, tzinfo=UTC)
    for now, told in ((before, "short"), (after, "!expired_grant"), (before, "short"), (after, "!expired_grant")) * 2:
        court.now = now
        assert [court.ask("/once") for _ in range(3)] == [told] * 3
    assert court.counted()["allow", "short", "enforce", "granted"] == 12


async def test_an_answer_is_not_kept_past_the_clock_at_which_it_was_given() -> None:
    """The clock is set back to when an earlier rule still granted: that one decides again."""
    rule = '[[allow]]\nname = "%s"\nfrom = "/web"\n%s\n'
    court = Court(rule % ("first", "expires = 2026-10-31T18:00:00Z") + rule % ("second", ""))
    late, early = datetime(2026, 10, 31, 18, tzinfo=UTC), court.now
    assert early < late
    for now, told in ((late, "second"), (early, "first"), (late, "second")):
        court.now = now
        assert [court.ask("/a"), court.ask("/a")] == [told, told]


async def test_another_policy_judges_the_next_request(court: Court) -> None:
    assert (court.ask("/docs"), court.ask("/new")) == ("reads", "!path")
    court.authorizer.replace(court.settings, policy_of('[[allow]]\nname = "new"\nfrom = "/**"\npaths = "/new"\n', 2))
    assert (court.ask("/docs"), court.ask("/new")) == ("!path", "new")
    decided = court.judge(request("/new"), b"1").decided
    assert decided is not None
    assert decided.policy == "x.allow.toml@2"
    court.authorizer.replace(court.settings, policy_of('[[allow]]\nfrom = "/nobody"\n', 3))
    assert (court.ask("/docs"), court.ask("/new")) == ("!no_rule", "!no_rule")


async def test_another_mode_judges_the_next_request(court: Court) -> None:
    assert court.ask("/new") == "!path"
    audit = dataclasses.replace(court.settings, mode=Mode.AUDIT)
    court.authorizer.replace(audit, court.authorizer.policy.value)
    assert (court.ask("/new"), court.ask("/docs")) == ("?path", "reads")
    assert court.counted()["would_deny", "", "audit", "path"] == 1
    court.authorizer.replace(court.settings, court.authorizer.policy.value)
    assert court.ask("/new") == "!path"


async def test_what_is_remembered_of_one_caller_is_bounded() -> None:
    rules = (f'[[allow]]\nname = "r{n}"\nfrom = "/web"\npaths = "/{n}"\n' for n in range(200))
    court = Court("".join(rules))
    for _ in range(2):
        assert [court.ask(f"/{n}") for n in range(200)] == [f"r{n}" for n in range(200)]
    assert set(court.counted().values()) == {2}
    assert isinstance(court.judge, MethodType)
    judge = court.judge.__self__
    assert isinstance(judge, _CallersJudge)
    assert len(judge._verdicts) <= 64
    assert repr(judge).startswith("<_CallersJudge of spiffe://mesh.test/web by <Policy x.allow.toml generation 1 ")
