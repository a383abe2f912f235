from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy import compile as compile_room
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import Condition, Decision, Mode, Outcome, Reason, decide_request, permit
from meshproxy.policy.document import Document, Rule, parse_allow_list
from meshproxy.policy.explain import explain_request, nearest_rule_of_request
from meshproxy.policy.match import IdentityPattern, PathPattern

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = TrustDomain("example.org")
PARTNER = TrustDomain("partner.net")
NOW = datetime(2026, 11, 1, tzinfo=UTC)

LIST = """
[[allow]]
name = "old"
from = "/web"
methods = ["GET", "DELETE"]
expires = 2026-11-01

[[allow]]
name = "reads"
from = ["/web", "/batch/*"]
methods = "GET"
paths = ["/orders", "/orders/*/lines", "/docs/**"]

[[allow]]
name = "writes"
from = "/web"
methods = ["POST", "PUT"]
paths = "/orders"

[[allow]]
name = "all"
from = ["/ops", "spiffe://partner.net/ops"]

[[allow]]
name = "any-path"
from = "/probe"
methods = ["HEAD", "OPTIONS"]

[[allow]]
name = "any-method"
from = "/agent"
paths = "/**"
"""


def policy(text: str = LIST) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="x.allow.toml"), generation=3)


def decide(caller: str, method: str, path: str, now: datetime = NOW, rules: Policy | None = None) -> Decision:
    caller = caller if caller.startswith("spiffe:") else f"spiffe://example.org{caller}"
    return decide_request(rules or policy(), SpiffeId.parse(caller), method, path, home=HOME, now=now)


@pytest.mark.parametrize(
    ("caller", "method", "path", "answer"),
    [
        ("/web", "GET", "/orders", "reads"),
        ("/web", "POST", "/orders", "writes"),
        ("/web", "PUT", "/orders", "writes"),
        ("/batch/7", "GET", "/orders/1/lines", "reads"),
        ("/web", "GET", "/docs", "reads"),
        ("/web", "GET", "/docs/", "reads"),
        ("/web", "GET", "/docs/a/b", "reads"),
        ("/web", "HEAD", "/orders", Reason.METHOD),
        ("/web", "get", "/orders", Reason.METHOD),
        ("/batch/7", "POST", "/orders", Reason.METHOD),
        ("/batch/7", "GET", "/orders/", Reason.PATH),
        ("/batch/7", "GET", "/Orders", Reason.PATH),
        ("/batch/7", "GET", "/orders//lines", Reason.PATH),
        ("/batch/7", "GET", "/orders/1/2/lines", Reason.PATH),
        ("/batch/7", "GET", "/orders/1/lines/", Reason.PATH),
        ("/batch/7", "GET", "/docsx", Reason.PATH),
        ("/batch/7", "POST", "/admin", Reason.PATH),  # not also told about the method
        ("/web", "DELETE", "/anything", Reason.EXPIRED_GRANT),
        ("/web", "PATCH", "/anything", Reason.METHOD),
        ("/ops", "BREW", "/any/thing", "all"),
        ("/ops", "OPTIONS", "*", "all"),
        ("spiffe://partner.net/ops", "GET", "/", "all"),
        ("spiffe://partner.net/web", "GET", "/orders", Reason.NO_RULE),
        ("/probe", "OPTIONS", "*", "any-path"),
        ("/probe", "GET", "/", Reason.METHOD),
        ("/agent", "TRACE", "/", "any-method"),
        ("/agent", "OPTIONS", "*", Reason.PATH),  # `*` is no path, so no pattern grants it
        ("/nobody", "GET", "/orders", Reason.NO_RULE),
        ("spiffe://example.org", "GET", "/orders", Reason.NO_RULE),
    ],
)
def test_who_may_do_what(caller: str, method: str, path: str, answer: str | Reason) -> None:
    decision = decide(caller, method, path)
    if isinstance(answer, Reason):
        assert (decision.reason, decision.rule) == (answer, None)
    else:
        assert (decision.reason, decision.rule and decision.rule.name) == (Reason.GRANTED, answer)


def test_a_decision_names_its_rule_with_file_and_line() -> None:
    granted, denied = decide("/web", "GET", "/orders"), decide("/web", "HEAD", "/orders")
    assert (granted.place, denied.place, granted.generation) == ("x.allow.toml:8", "x.allow.toml", 3)
    assert permit(denied, Mode.ENFORCE) is None
    leave = permit(denied, Mode.AUDIT)
    assert leave is not None
    assert (leave.would_deny, denied.outcome(Mode.AUDIT)) == (True, Outcome.WOULD_DENY)


def test_the_first_rule_in_file_order_decides_whichever_way_it_is_found() -> None:
    orders = ['from = "/**"', 'from = "/*"', 'from = "/web"', 'from = "spiffe://example.org/web"']
    paths = ["", 'paths = "/**"', 'paths = "/*"', 'paths = "/a"']
    tables = [f"[[allow]]\n{who}\n{what}\nmethods = {ms}\n" for who in orders for what in paths for ms in ('"GET"',)]
    for turn in range(len(tables)):
        assert decide("/web", "GET", "/a", rules=policy("".join(tables[turn:] + tables[:turn]))).place.endswith(":1")


def test_a_grant_ends_at_its_instant() -> None:
    assert decide("/web", "DELETE", "/x", now=NOW - timedelta(microseconds=1)).granted
    assert not decide("/web", "DELETE", "/x").granted


# The contract once more, in other means: patterns as regular expressions, rules tried in turn.


def _regex(pattern: str) -> re.Pattern[str]:
    head, tail = (pattern[:-3], "(?:/.*)?") if pattern.endswith("/**") else (pattern, "")
    return re.compile("/".join("[^/]+" if s == "*" else re.escape(s) for s in head.split("/")) + tail, re.DOTALL)


def _grants_caller(pattern: str, caller: SpiffeId) -> bool:
    full = pattern if pattern.startswith("spiffe:") else f"spiffe://example.org{pattern}"
    return _regex(full).fullmatch(str(caller)) is not None


def _stopped_at(rule: Rule, caller: SpiffeId, method: str, path: str) -> Condition | None:
    if not any(_grants_caller(pattern.text, caller) for pattern in rule.callers):
        return Condition.CALLER
    is_path = path.startswith("/")  # `*` and nothing at all are none
    if rule.paths is not None and not (is_path and any(_regex(p.text).fullmatch(path) for p in rule.paths)):
        return Condition.PATH
    if rule.methods is not None and method not in rule.methods:
        return Condition.METHOD
    return Condition.EXPIRY if rule.expires is not None and rule.expires <= NOW else None


NAMES = st.sampled_from(["a", "b", "A"])
CALLERS = st.builds(
    lambda domain, names: SpiffeId.of(domain, "".join(f"/{name}" for name in names)),
    st.sampled_from([HOME, PARTNER]),
    st.lists(NAMES, max_size=3),
)
WHOM = st.builds(
    lambda domain, names, tail: domain + "".join(f"/{name}" for name in names) + tail,
    st.sampled_from(["", "", "spiffe://example.org", "spiffe://partner.net"]),
    st.lists(NAMES | st.just("*"), min_size=1, max_size=3),
    st.sampled_from(["", "/**"]),
) | st.sampled_from(["/**", "/*"])
WHERE = st.builds(
    lambda names, tail: "".join(f"/{name}" for name in names) + tail,
    st.lists(NAMES | st.just("*"), min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "/**"]),
) | st.sampled_from(["/", "/**"])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "get"])
RULES = st.lists(
    st.tuples(
        st.lists(WHOM, min_size=1, max_size=4),
        st.none() | st.lists(METHODS, min_size=1, max_size=3),
        st.none() | st.lists(WHERE, min_size=1, max_size=4),
        st.none() | st.integers(-2, 2).map(lambda hours: NOW + timedelta(hours=hours)),
    ),
    max_size=12,
)
PATHS = st.lists(NAMES | st.sampled_from(["", "*", "**", "c"]), min_size=1, max_size=5).map(
    lambda names: "".join(f"/{name}" for name in names)
) | st.sampled_from(["*", "", "/"])


def built(rules: list[tuple[list[str], list[str] | None, list[str] | None, datetime | None]]) -> Policy:
    made = [
        Rule(
            name=f"rule-{number}",
            ordinal=number,
            line=number,
            callers=tuple(map(IdentityPattern.parse, whom)),
            methods=None if methods is None else tuple(methods),
            paths=None if paths is None else tuple(map(PathPattern.parse, paths)),
            expires=expires,
        )
        for number, (whom, methods, paths, expires) in enumerate(rules, start=1)
    ]
    return compile_policy(Document("x.allow.toml", tuple(made), "0" * 12))


@pytest.mark.parametrize("few", [0, 1, 16])
def test_the_index_decides_as_trying_every_rule_does(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_room, "_FEW", few)  # 0: every rule with paths is in a shared index

    @given(RULES, CALLERS, METHODS, PATHS)
    def check(
        rules: list[tuple[list[str], list[str] | None, list[str] | None, datetime | None]],
        caller: SpiffeId,
        method: str,
        path: str,
    ) -> None:
        asked = built(rules)
        decision = decide_request(asked, caller, method, path, home=HOME, now=NOW)
        stopped = [_stopped_at(rule, caller, method, path) for rule in asked.rules]
        expected = next((rule for rule, at in zip(asked.rules, stopped, strict=True) if at is None), None)
        assert decision.rule is expected
        reasons = (Reason.NO_RULE, Reason.PATH, Reason.METHOD, Reason.EXPIRED_GRANT)
        if expected is None:
            assert decision.reason is reasons[max((at for at in stopped if at is not None), default=Condition.CALLER)]

        verdicts = explain_request(asked, caller, method, path, home=HOME, now=NOW)
        assert [(verdict.rule, verdict.failed) for verdict in verdicts] == list(zip(asked.rules, stopped, strict=True))
        if expected is None:
            nearest = nearest_rule_of_request(asked, caller, method, path, home=HOME, now=NOW)
            if decision.reason is Reason.NO_RULE:
                assert nearest is None or stopped[nearest.rule.ordinal - 1] is Condition.CALLER
            else:
                assert nearest is not None
                assert reasons[stopped[nearest.rule.ordinal - 1] or 0] is decision.reason
                assert nearest.text.isprintable()

    check()


# What it costs. A linear look at the rules would take hundreds of times as long; the bound is for a busy machine.

OLD = datetime(2026, 1, 1, tzinfo=UTC)
Made = tuple[list[str], list[str] | None, list[str] | None, datetime | None]
SHAPES: dict[str, tuple[Callable[[int], Made], tuple[str, str, str]]] = {
    "a rule for each caller": (
        lambda n: ([f"/svc-{n}"], ["GET"], ["/a", "/b/*", "/c/**"], None),
        ("/svc-9", "GET", "/c/d"),
    ),
    "wildcards everywhere": (lambda _: (["/**"], ["GET"], ["/**"], None), ("/web", "GET", "/a/b")),
    "wildcards, denied": (lambda _: (["/**"], ["GET"], ["/**"], None), ("/web", "PUT", "/a/b")),
    "all expired": (lambda _: (["/*"], None, None, OLD), ("/web", "GET", "/a")),
    "a stranger": (lambda n: ([f"/svc-{n}/*"], None, [f"/a/{n}"], None), ("/evil", "GET", "/a/1")),
    "paths of one caller": (lambda n: (["/web"], ["GET"], [f"/api/{n}"], None), ("/web", "GET", "/api/9")),
    "patterns of one caller": (lambda n: (["/web"], ["GET"], [f"/*/{n}/**"], None), ("/web", "GET", "/api/9/x")),
    "one caller, denied": (lambda n: (["/web"], ["GET"], [f"/*/{n}/**"], None), ("/web", "GET", "/api/x/x")),
    "its own callers in each rule": (
        lambda n: (["/web", f"/svc-{n}"], ["GET"], [f"/{n}"], None),
        ("/web", "GET", "/9"),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_thousand_rules_are_asked_like_ten(shape: str) -> None:
    make, (caller, method, path) = SHAPES[shape]
    asker = SpiffeId.of(HOME, caller)

    def cost(rules: Policy) -> float:
        start = time.process_time()
        for _ in range(300):
            decide_request(rules, asker, method, path, home=HOME, now=NOW)
        return time.process_time() - start

    few, many = built([make(n) for n in range(10)]), built([make(n) for n in range(10_000)])
    assert min(cost(many) for _ in range(7)) < 5 * min(cost(few) for _ in range(7))


def test_many_callers_times_many_paths_do_not_multiply() -> None:
    callers, paths = [f"/svc-{n}" for n in range(300)], [f"/p/{n}" for n in range(300)]
    rules = built([(callers, ["GET"], paths, None), *(([caller], ["PUT"], ["/own"], None) for caller in callers)])
    found = [rules.request_indexes(SpiffeId.of(HOME, caller), home=HOME)[0] for caller in callers]
    assert [repr(index) for index in found] == ["<RequestIndex of 2 rules: /own, and 1 shared>"] * 300
    assert len({id(shared) for index in found for shared in index.shared}) == 1
    assert decide("/svc-7", "GET", "/p/299", rules=rules).granted
    assert decide("/svc-7", "PUT", "/own", rules=rules).granted
    assert decide("/svc-7", "PUT", "/p/1", rules=rules).reason is Reason.METHOD


@pytest.mark.parametrize("path", ["/*" * 4000, "/a" * 30_000, "/" * 8000, "/" + "%2a" * 2000])
def test_a_hostile_path_is_decided_and_explained(path: str) -> None:
    rules = built(
        [(["/web"], ["GET"], ["/" + "/".join(bits)], None) for bits in (["*"] * 9, ["a"] * 9, ["a", "*", "**"])]
    )
    expected = any(_regex(p.text).fullmatch(path) for rule in rules.rules for p in rule.paths or ())
    assert decide("/web", "GET", path, rules=rules).granted is expected
    nearest = nearest_rule_of_request(rules, SpiffeId.of(HOME, "/web"), "PUT\n", path, home=HOME, now=NOW)
    assert nearest is not None
    assert nearest.text.isprintable()
    assert len(nearest.text) < 500
