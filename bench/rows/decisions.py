"""Decisions: whether a long allow-list costs more to ask than a short one. In process, through meshproxy.policy."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.processes import BenchError
from bench.results import Block, Must
from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import Reason, decide_request
from meshproxy.policy.document import parse_allow_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.contest import Contest, Sample
    from meshproxy.policy.compile import Policy

_HOME: Final = TrustDomain("bench.test")
_NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
_FEW: Final = 10
_MANY: Final = 10_000
_ASKED: Final = 2000  # different requests in one pass
_PASSES: Final = 10  # per turn; the fastest counts, as nothing makes a decision faster than it is
_MUSTS: Final = (Must(5.0, 2.0), Must(1.5, None, (f"{_FEW} rules",)))

_Request = tuple[SpiffeId, str, str]


@dataclass(frozen=True, slots=True)
class _Case:
    """A shape of list and what is asked of it.

    rule      what follows `[[allow]]` in rule number N
    asked     caller, method and path that rule number N is meant to be the answer to
    reason    what the decision has to be
    """

    name: str
    rule: Callable[[int], str]
    asked: Callable[[int], tuple[str, str, str]]
    reason: Reason


_CASES: Final = (
    _Case(
        "a caller, a method and a path per rule",
        lambda n: f'from = "/team-{n % 97}/service-{n}"\nmethods = ["GET"]\npaths = ["/area-{n}/items"]',
        lambda n: (f"/team-{n % 97}/service-{n}", "GET", f"/area-{n}/items"),
        Reason.GRANTED,
    ),
    _Case(
        "all wildcards",
        lambda n: f'from = "/*/service-{n}"\npaths = ["/*/area-{n}/**"]',
        lambda n: (f"/team-{n % 97}/service-{n}", "GET", f"/x/area-{n}/items/7"),
        Reason.GRANTED,
    ),
    _Case(
        "all denied, by path",
        lambda n: f'from = "/team-{n % 97}/service-{n}"\nmethods = ["GET"]\npaths = ["/area-{n}/items"]',
        lambda n: (f"/team-{n % 97}/service-{n}", "GET", f"/area-{n}/other"),
        Reason.PATH,
    ),
    _Case(
        "all denied, a caller of no rule",
        lambda n: f'from = "/team-{n % 97}/service-{n}"\nmethods = ["GET"]\npaths = ["/area-{n}/items"]',
        lambda n: (f"/team-{n % 97}/stranger-{n}", "GET", f"/area-{n}/items"),
        Reason.NO_RULE,
    ),
)


@dataclass(frozen=True, slots=True)
class DecisionsRow:
    """Ten thousand rules against ten."""

    name: str
    title: str

    def run(self, contest: Contest) -> list[Block]:
        """Time each shape of list in both lengths, on the proxies' core."""
        os.sched_setaffinity(0, {contest.cores.proxies})
        try:
            return [self._run_case(contest, case) for case in _CASES]
        finally:
            os.sched_setaffinity(0, {contest.cores.load})

    def _run_case(self, contest: Contest, case: _Case) -> Block:
        turns = {f"{count:,} rules": partial(_time, *_prepare(case, count)) for count in (_MANY, _FEW)}
        samples = contest.take_turns(turns)["us"]
        return Block(self.name, f"{self.title}: {case.name}", "us/decision", f"{_MANY:,} rules", samples, musts=_MUSTS)


def _prepare(case: _Case, count: int) -> tuple[Policy, Sequence[_Request]]:
    """Return a list of so many rules and the requests to ask it; raises BenchError if it answers one wrongly."""
    text = "".join(f"[[allow]]\n{case.rule(number)}\n" for number in range(count))
    policy = compile_policy(parse_allow_list(text.encode(), file="bench.allow.toml"))
    numbers = random.Random(count).choices(range(count), k=_ASKED)
    requests = [
        (SpiffeId(_HOME, caller), method, path) for caller, method, path in (case.asked(number) for number in numbers)
    ]
    for caller, method, path in requests:
        reason = decide_request(policy, caller, method, path, home=_HOME, now=_NOW).reason
        if reason is not case.reason:
            raise BenchError(
                f"the allow-list answers {reason} to {caller} {method} {path} where {case.reason} is right"
            )
    return policy, requests


def _time(policy: Policy, requests: Sequence[_Request]) -> Sample:
    fastest = float("inf")
    for _ in range(_PASSES):
        begun = time.process_time()
        for caller, method, path in requests:
            decide_request(policy, caller, method, path, home=_HOME, now=_NOW)
        fastest = min(fastest, time.process_time() - begun)
    return {"us": 1e6 * fastest / len(requests)}
