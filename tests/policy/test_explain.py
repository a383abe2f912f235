from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.document import parse_allow_list
from meshproxy.policy.explain import MAX_PATTERNS, Distance, nearest_rule

HOME = TrustDomain("example.org")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def policy_of(*patterns: str, expires: str = "") -> Policy:
    text = "".join(f'[[allow]]\nfrom = "{pattern}"\n{expires}\n' for pattern in patterns)
    return compile_policy(parse_allow_list(text.encode(), file="orders.allow.toml"))


@pytest.mark.parametrize(
    ("pattern", "caller", "distance", "phrase"),
    [
        ("/web", "spiffe://partner.net/web", Distance.TRUST_DOMAIN, "the caller is spiffe://partner.net/web: the same"),
        ("spiffe://partner.net/web", "spiffe://example.org/web", Distance.TRUST_DOMAIN, "the caller is /web: the same"),
        ("/Web", "spiffe://example.org/web", Distance.CASE, "upper and lower case only"),
        ("/batch/*", "spiffe://example.org/Batch/7", Distance.CASE, "upper and lower case only"),
        ("/orders", "spiffe://example.org/order", Distance.ONE_SEGMENT, "the caller is /order: one segment differs"),
        ("/team/api", "spiffe://example.org/team/web", Distance.ONE_SEGMENT, "one segment differs"),
        ("/team/api/**", "spiffe://example.org/team/web/x", Distance.ONE_SEGMENT, "one segment differs"),
        ("/batch/*", "spiffe://example.org/batch", Distance.LENGTH, "grants /batch/*, the caller is /batch: one is"),
        ("/batch", "spiffe://example.org/batch/7", Distance.LENGTH, "one is longer"),
        ("/batch/*/**", "spiffe://example.org/batch", Distance.LENGTH, "one is longer"),
    ],
)
def test_why_the_nearest_rule_did_not_grant(pattern: str, caller: str, distance: Distance, phrase: str) -> None:
    nearest = nearest_rule(policy_of("/nothing/alike/here", pattern), SpiffeId.parse(caller), home=HOME, now=NOW)
    assert nearest is not None
    assert (nearest.rule.name, nearest.distance) == ("rule-2", distance)
    assert str(nearest).startswith('rule "rule-2" (orders.allow.toml:4) grants ')
    assert phrase in nearest.text


@pytest.mark.parametrize("caller", ["/evil", "/a/b/c", "/x/y"])
def test_a_caller_unlike_every_rule_has_no_nearest(caller: str) -> None:
    policy = policy_of("/web", "/orders/*", "spiffe://partner.net/api")
    assert nearest_rule(policy, SpiffeId.of(HOME, caller), home=HOME, now=NOW) is None


def test_an_expired_rule_is_nearest_of_all_and_tells_when() -> None:
    policy = policy_of("/Web", "/web", expires="expires = 2026-01-01")
    nearest = nearest_rule(policy, SpiffeId.of(HOME, "/web"), home=HOME, now=NOW)
    assert nearest is not None
    assert nearest.distance is Distance.EXPIRED
    assert nearest.text == 'rule "rule-2" (orders.allow.toml:4) grants /web, but expired 2026-01-01 00:00 UTC'


def test_a_rule_that_grants_is_not_a_near_miss() -> None:
    assert nearest_rule(policy_of("/web"), SpiffeId.of(HOME, "/web"), home=HOME, now=NOW) is None


def test_the_first_of_equals_is_told() -> None:
    nearest = nearest_rule(policy_of("/a/x", "/a/y"), SpiffeId.of(HOME, "/a/b"), home=HOME, now=NOW)
    assert nearest is not None
    assert nearest.rule.ordinal == 1


def test_a_long_list_is_looked_at_to_a_bound_and_a_long_name_is_cut() -> None:
    text = "[[allow]]\nfrom = [" + '"/x/y",' * MAX_PATTERNS + '"/web"]'
    policy = compile_policy(parse_allow_list(text.encode(), file="f"))
    assert nearest_rule(policy, SpiffeId.of(HOME, "/Web"), home=HOME, now=NOW) is None
    caller = SpiffeId.of(HOME, "/orders" + "/a" * 900)
    nearest = nearest_rule(policy_of("/orders"), caller, home=HOME, now=NOW)
    assert nearest is not None
    assert len(nearest.text) < 400


SEGMENTS = st.lists(st.sampled_from(["a", "A", "ab", "b-c"]), min_size=1, max_size=4)


@given(st.lists(SEGMENTS, min_size=1, max_size=5), SEGMENTS)
def test_a_nearest_rule_never_grants(patterns: list[list[str]], segments: list[str]) -> None:
    policy = policy_of(*("/" + "/".join(pattern) for pattern in patterns))
    caller = SpiffeId.of(HOME, "/" + "/".join(segments))
    nearest = nearest_rule(policy, caller, home=HOME, now=NOW)
    if nearest is not None:
        assert not any(pattern.match(caller, home=HOME) for pattern in nearest.rule.callers)
        assert nearest.text.isprintable()
