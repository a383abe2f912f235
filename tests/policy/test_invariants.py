"""Promises about allow-lists, proved over patterns: broken if and only if some request shows it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.errors import FaultyInput
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import decide_request
from meshproxy.policy.document import Document, Rule, parse_allow_list
from meshproxy.policy.invariants import Invariant, read_invariants, violations
from meshproxy.policy.match import IdentityPattern, PathPattern
from tests.policy.test_difference import (
    CALLERS,
    PATHS,
    caller_patterns,
    path_patterns,
    plain_match,
    plainly_granted,
    some_rules,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
METHODS = ["GET", "PUT"]


def broken(invariants: str, rules: str, service: str = "/payments") -> list[tuple[str, str, str]]:
    read = read_invariants(invariants.encode(), file="invariants.toml")
    document = parse_allow_list(rules.encode(), file="x")
    found = violations(read, service, document.rules, home=HOME, now=NOW)
    return [(each.invariant.name, each.rule.name, str(each.example or "")) for each in found]


@settings(max_examples=80, deadline=None)
@given(
    some_rules(),
    st.lists(caller_patterns, max_size=2),
    st.none() | st.lists(path_patterns, min_size=1, max_size=2),
    st.none() | st.lists(st.sampled_from(METHODS), min_size=1, max_size=2),
)
def test_a_promise_is_broken_if_and_only_if_a_request_shows_it(
    rules: tuple[Rule, ...], only: list[str], paths: list[str] | None, methods: list[str] | None
) -> None:
    invariant = Invariant(
        "i",
        "f",
        1,
        methods=None if methods is None else tuple(methods),
        paths=None if paths is None else tuple(map(PathPattern.parse, paths)),
        only=tuple(map(IdentityPattern.parse, only)),
    )
    found = list(violations([invariant], "/x", rules, home=HOME, now=NOW))
    assert bool(found) == _shown(rules, only, paths, methods)
    policy = compile_policy(Document("x", rules, ""))
    for each in found:
        assert each.example is not None
        caller = SpiffeId.of(HOME, each.example.caller)
        assert decide_request(policy, caller, each.example.method, each.example.path, home=HOME, now=NOW).granted
        assert not any(plain_match(one.removeprefix("spiffe://mesh.test"), each.example.caller) for one in only)


def _shown(rules: Sequence[Rule], only: list[str], paths: list[str] | None, methods: list[str] | None) -> bool:
    outsiders = [
        each for each in CALLERS if not any(plain_match(one.removeprefix("spiffe://mesh.test"), each) for one in only)
    ]
    # An invariant without paths is about all of them; `*` is no path, and one without methods is about any.
    about = [each for each in PATHS if each != "*" and (paths is None or any(plain_match(one, each) for one in paths))]
    return any(
        plainly_granted(rules, caller, method, path, NOW)
        for caller in outsiders
        for method in (methods or [*METHODS, "OPTIONS", "ZAP"])
        for path in about
    )


ADMIN = '[[invariant]]\nname = "admin"\nservices = ["/payments"]\npaths = ["/admin/**"]\nonly = ["/team-pay/**"]\n'


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ('[[allow]]\nfrom = "/team-pay/x"\n', []),
        ('[[allow]]\nfrom = "/web"\npaths = ["/orders"]\n', []),
        ('[[allow]]\nfrom = "/web"\npaths = ["/*"]\n', [("admin", "rule-1", "spiffe://mesh.test/web GET /admin")]),
        (
            '[[allow]]\nfrom = "/*"\npaths = ["/admin/x"]\nmethods = "PUT"\n',
            [("admin", "rule-1", "spiffe://mesh.test/other PUT /admin/x")],
        ),
        (
            '[[allow]]\nfrom = "spiffe://other.test/team-pay/x"\n',
            [("admin", "rule-1", "spiffe://other.test/team-pay/x GET /admin")],
        ),
        ('[[allow]]\nfrom = "/web"\nexpires = 2020-01-01\n', []),
    ],
)
def test_examples(rules: str, expected: list[tuple[str, str, str]]) -> None:
    assert broken(ADMIN, rules) == expected
    assert broken(ADMIN, rules, service="/ledger") == []


def test_each_caller_of_a_rule_is_told_of_once_whatever_its_paths() -> None:
    rules = '[[allow]]\nfrom = ["/a", "/team-pay/b", "/c"]\npaths = ["/admin/x", "/admin/y"]\nmethods = "GET"\n'
    assert [example for _, _, example in broken(ADMIN, rules)] == [
        "spiffe://mesh.test/a GET /admin/x",
        "spiffe://mesh.test/c GET /admin/x",
    ]


def test_a_promise_that_nobody_can_judge_counts_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    promise = ADMIN.replace('["/team-pay/**"]', '["/*", "/*/*/**"]')
    rules = '[[allow]]\nfrom = "/*/**"\n'
    assert broken(promise, rules) == []
    monkeypatch.setattr("meshproxy.policy.invariants._MOST_STEPS", 2)
    assert broken(promise, rules) == [("admin", "rule-1", "")]


def test_a_hundred_promises_are_proved_of_ten_thousand_rules_in_seconds() -> None:
    promises = "".join(
        f'[[invariant]]\npaths = ["/v1/{number}/**"]\nonly = ["/team/**", "/batch/{number}"]\n' for number in range(100)
    )
    rules = tuple(
        Rule(f"r{n}", n, n, (IdentityPattern.parse(f"/batch/{n % 100}"),), None, (PathPattern.parse(f"/v1/{n}/x"),))
        for n in range(10_000)
    )
    read = read_invariants(promises.encode(), file="invariants.toml")
    before = time.process_time()
    assert list(violations(read, "/x", rules, home=HOME, now=NOW)) == []
    assert time.process_time() - before < 5


def test_nobody_at_all() -> None:
    nobody = ADMIN.replace('["/team-pay/**"]', "[]")
    assert broken(nobody, '[[allow]]\nfrom = "/team-pay/x"\n') == [
        ("admin", "rule-1", "spiffe://mesh.test/team-pay/x GET /admin")
    ]


def test_every_rule_says_what_is_required() -> None:
    owned = '[[invariant]]\nrequire = ["owner", "expires"]\n'
    rules = '[[allow]]\nfrom = "/a"\nowner = "x"\n[[allow]]\nfrom = "/b"\nowner = "x"\nexpires = 2027-01-01\n'
    assert broken(owned, rules) == [("invariant-1", "rule-1", "")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[invariant]]\nname = 'x'\n", "neither `only` nor `require`"),
        ("[[invariant]]\nonly = ['x']\n", "an identity such as /web"),
        ("[[invariant]]\nrequire = ['colour']\n", "one of owner, reason, expires"),
        ("[[invariant]]\nonly = []\npath = ['/x']\n", "Did you mean `paths`"),
        ("[[invariant]]\nonly = []\npaths = []\n", "an empty array"),
        ("[invariant]\n", "[[invariant]]"),
        ("x = 1", "unknown key"),
    ],
)
def test_faulty_files_say_where(text: str, words: str) -> None:
    with pytest.raises(FaultyInput) as faulty:
        read_invariants(text.encode(), file="invariants.toml")
    assert words in str(faulty.value)
    assert str(faulty.value).startswith("invariants.toml:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither an [[invariant]] nor `invariant = []`"),
        ("# all gone\n", "neither an [[invariant]] nor `invariant = []`"),
        ('[[invariant]]\nservices = "spiffe://mesh.test/payments"\nonly = []\n', "services of the own trust domain"),
    ],
)
def test_what_would_promise_nothing_without_saying_so_is_a_fault(text: str, words: str) -> None:
    with pytest.raises(FaultyInput, match=re.escape(words)):
        read_invariants(text.encode(), file="invariants.toml")


def test_nothing_is_promised_when_that_is_written() -> None:
    assert read_invariants(b"invariant = []", file="invariants.toml") == ()
