"""Which rules have granted nothing, and since when: derived from counters, across edits of the list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.document import parse_allow_list
from meshproxy.runtime.usage import Usage

START = datetime(2026, 11, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)
LATEST = START + timedelta(days=2)
A, B = '[[allow]]\nname = "a"\nfrom = "/a"\n', '[[allow]]\nname = "b"\nfrom = "/b"\n'
UNTIL = B + "expires = 2026-11-02\n"


def policy(*rules: str) -> Policy:
    return compile_policy(parse_allow_list("".join(rules).encode(), file="api.allow.toml"))


def judged_by(*rules: str) -> tuple[Usage, Policy]:
    usage, judge = Usage(), policy(*rules)
    usage.judged_by(judge, {}, START)
    return usage, judge


def test_at_first_none_was_used_and_then_who_grants_was() -> None:
    usage, judge = judged_by(A, B)
    assert usage.unused(judge, {}, LATER) == {START: ["a", "b"]}
    assert usage.unused(judge, {"b": 3}, LATER) == {START: ["a"]}
    assert usage.unused(judge, {"a": 1, "b": 3}, LATER) == {}


def test_what_a_name_had_granted_before_it_stood_for_this_rule_counts_for_nothing() -> None:
    usage, _ = judged_by(A, B)
    wider = policy(A, B.replace("/b", "/b/**"))
    usage.judged_by(wider, {"a": 7, "b": 3}, LATER)
    assert usage.unused(wider, {"a": 7, "b": 3}, LATEST) == {LATER: ["b"]}
    assert usage.unused(wider, {"a": 7, "b": 4}, LATEST) == {}


def test_an_edit_elsewhere_and_another_place_or_end_forget_nothing() -> None:
    usage, _ = judged_by(A, B)
    moved = policy("# a comment\n", UNTIL.replace("11-02", "12-24"), '[[allow]]\nname = "c"\nfrom = "/c"\n', A)
    usage.judged_by(moved, {"a": 1}, LATER)
    assert usage.unused(moved, {"a": 1}, LATEST) == {START: ["b"], LATER: ["c"]}


def test_a_rule_that_is_gone_and_comes_back_begins_anew() -> None:
    usage, judge = judged_by(A, B)
    usage.judged_by(policy(A), {"b": 1}, LATER)
    usage.judged_by(judge, {"b": 1}, LATEST)
    assert usage.unused(judge, {"b": 1}, LATEST) == {START: ["a"], LATEST: ["b"]}


def test_what_has_ended_is_not_unused_it_is_over() -> None:
    usage, judge = judged_by(A, UNTIL)
    assert usage.unused(judge, {}, START) == {START: ["a", "b"]}
    assert usage.unused(judge, {}, LATER) == {START: ["a"]}
