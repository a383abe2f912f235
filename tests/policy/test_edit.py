"""The edit that is proposed grants what was denied, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import decide_connection, decide_request
from meshproxy.policy.difference import difference
from meshproxy.policy.document import Document, Rule, parse_allow_list
from meshproxy.policy.edit import smallest_edit
from meshproxy.policy.explain import nearest_rule, nearest_rule_of_request
from meshproxy.policy.match import IdentityPattern, PathPattern
from tests.policy.test_difference import CALLERS, some_rules

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.edit import Edit

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIST = """
[[allow]]
name = "web-reads"
from = ["/web"]
methods = ["GET"]
paths = ["/orders/1"]
owner = "team-shop"

[[allow]]
name = "batch"
from = ["/batch/*"]
methods = ["POST"]
paths = ["/orders"]
expires = 2026-01-01
"""


def policy_of(text: str) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="api.allow.toml"))


def edit_for(policy: Policy, caller: str, method: str, path: str) -> Edit | None:
    who = SpiffeId.of(HOME, caller) if caller.startswith("/") else SpiffeId.parse(caller)
    nearest = nearest_rule_of_request(policy, who, method, path, home=HOME, now=NOW)
    return smallest_edit(policy, who, (method, path), nearest, home=HOME, now=NOW)


def edited(policy: Policy, edit: Edit) -> tuple[Rule, ...]:
    (made,) = parse_allow_list(edit.text.encode(), file="x").rules
    if edit.replaces is None:
        return (*policy.rules, replace(made, ordinal=len(policy.rules) + 1))
    return tuple(replace(made, ordinal=each.ordinal) if each is edit.replaces else each for each in policy.rules)


@settings(max_examples=80, deadline=None)
@given(some_rules(), st.sampled_from(CALLERS), st.sampled_from(["GET", "PUT", "X"]), st.sampled_from(["/a", "/b/zz/"]))
def test_the_edit_grants_just_what_was_denied(rules: tuple[Rule, ...], caller: str, method: str, path: str) -> None:
    policy = compile_policy(Document("x", rules, ""))
    who = SpiffeId.of(HOME, caller)
    if decide_request(policy, who, method, path, home=HOME, now=NOW).granted:
        return
    edit = edit_for(policy, caller, method, path)
    assert edit is not None
    after = edited(policy, edit)
    assert decide_request(compile_policy(Document("x", after, "")), who, method, path, home=HOME, now=NOW).granted
    if edit.effect.startswith("this, and nothing else"):
        exact = Rule("it", 99, 1, (IdentityPattern.parse(caller),), (method,), (PathPattern.parse(path),))
        if edit.replaces is not None:  # for as long as that rule lasts, which is said
            exact = replace(exact, expires=edit.replaces.expires)
            assert ("until" in edit.effect) == (exact.expires is not None)
        assert list(difference((*rules, exact), after, home=HOME, now=NOW)) == []


def test_a_method_is_added_where_the_rule_grants_nothing_else_by_it() -> None:
    edit = edit_for(policy_of(LIST), "/web", "PUT", "/orders/1")
    assert edit is not None
    assert edit.replaces is not None
    assert edit.text == (
        '[[allow]]\nname = "web-reads"\nfrom = ["/web"]\nmethods = ["GET", "PUT"]\npaths = ["/orders/1"]\n'
        'owner = "team-shop"\n'
    )


def test_what_is_added_to_a_rule_that_ends_ends_with_it_which_is_said() -> None:
    edit = edit_for(policy_of(LIST.replace('owner = "team-shop"', "expires = 2026-12-01")), "/web", "PUT", "/orders/1")
    assert edit is not None
    assert edit.effect == "this, and nothing else, until 2026-12-01"


def test_where_it_would_grant_more_a_rule_of_its_own_is_proposed() -> None:
    edit = edit_for(policy_of(LIST.replace('"/orders/1"', '"/orders/1", "/admin"')), "/web", "PUT", "/orders/1")
    assert edit is not None
    assert edit.replaces is None
    assert edit.text.startswith('[[allow]]\nfrom = ["/web"]\nmethods = ["PUT"]\npaths = ["/orders/1"]\n')


def test_an_expired_grant_is_proposed_anew_for_thirty_days() -> None:
    edit = edit_for(policy_of(LIST), "/batch/nightly", "POST", "/orders")
    assert edit is not None
    assert edit.replaces is not None
    assert "expires = 2026-12-22\n" in edit.text
    assert edit.effect == "what the rule granted before, until 2026-12-22"


def test_a_caller_of_another_domain_is_named_in_full() -> None:
    edit = edit_for(policy_of(LIST), "spiffe://other.test/web", "GET", "/orders/1")
    assert edit is not None
    assert 'from = ["spiffe://other.test/web"]' in edit.text


@pytest.mark.parametrize("path", ["/a/*", "/**", "*", "/a*b"])
def test_a_path_that_no_pattern_names_exactly_is_left_to_a_person(path: str) -> None:
    assert edit_for(policy_of(LIST), "/web", "OPTIONS", path) is None


def test_a_connection_gets_a_rule_of_its_own_or_its_time_back() -> None:
    policy = policy_of('[[allow]]\nfrom = "/batch/*"\nexpires = 2026-01-01\n')
    for caller, wanted in (("/web", 'from = ["/web"]\n'), ("/batch/a", "expires = 2026-12-22\n")):
        who = SpiffeId.of(HOME, caller)
        edit = smallest_edit(policy, who, None, nearest_rule(policy, who, home=HOME, now=NOW), home=HOME, now=NOW)
        assert edit is not None
        assert wanted in edit.text
        after = compile_policy(Document("x", edited(policy, edit), ""))
        assert decide_connection(after, who, home=HOME, now=NOW + timedelta(days=1)).granted


@pytest.mark.parametrize("method", ["get", "*", "GE T", "M" * 65])
def test_what_no_list_could_hold_is_not_proposed(method: str) -> None:
    document = parse_allow_list(b'[[allow]]\nfrom = "/web"\nmethods = "GET"\npaths = "/a"\n', file="x")
    policy, caller = compile_policy(document), SpiffeId.of(HOME, "/web")
    nearest = nearest_rule_of_request(policy, caller, method, "/a", home=HOME, now=NOW)
    assert smallest_edit(policy, caller, (method, "/a"), nearest, home=HOME, now=NOW) is None
