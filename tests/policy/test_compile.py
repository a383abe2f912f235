from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.document import parse_allow_list

HOME = TrustDomain("example.org")
PARTNER = TrustDomain("partner.net")


def policy_of(rules: list[list[str]]) -> Policy:
    text = "".join("[[allow]]\nfrom = [" + ", ".join(f'"{pattern}"' for pattern in rule) + "]\n" for rule in rules)
    return compile_policy(parse_allow_list((text or "allow = []").encode(), file="x.allow.toml"), generation=7)


def names(policy: Policy, caller: SpiffeId, home: TrustDomain = HOME) -> list[str]:
    return [rule.name for rule in policy.candidates(caller, home=home)]


SEGMENTS = st.sampled_from(["a", "b", "A", "ab"])
CALLERS = st.builds(
    lambda domain, segments: SpiffeId.of(domain, "".join(f"/{segment}" for segment in segments)),
    st.sampled_from([HOME, PARTNER]),
    st.lists(SEGMENTS, max_size=5),
)
PATTERNS = st.builds(
    lambda domain, segments, tail: domain + "".join(f"/{segment}" for segment in segments) + tail,
    st.sampled_from(["", "spiffe://example.org", "spiffe://partner.net"]),
    st.lists(SEGMENTS | st.just("*"), min_size=1, max_size=4),
    st.sampled_from(["", "/**"]),
) | st.sampled_from(["/**", "spiffe://partner.net/**"])


@given(st.lists(st.lists(PATTERNS, min_size=1, max_size=3), max_size=12), CALLERS, st.sampled_from([HOME, PARTNER]))
def test_the_index_finds_what_trying_every_pattern_finds_in_file_order(
    rules: list[list[str]], caller: SpiffeId, home: TrustDomain
) -> None:
    policy = policy_of(rules)
    expected = [rule.name for rule in policy.rules if any(pattern.match(caller, home=home) for pattern in rule.callers)]
    found = names(policy, caller, home)
    assert list(dict.fromkeys(found)) == expected
    assert found == sorted(found, key=lambda name: int(name.removeprefix("rule-")))


def test_the_own_trust_domain_is_named_when_asking() -> None:
    policy = policy_of([["/web"], ["spiffe://partner.net/web"]])
    assert names(policy, SpiffeId.of(HOME, "/web"), home=HOME) == ["rule-1"]
    assert names(policy, SpiffeId.of(HOME, "/web"), home=PARTNER) == []
    assert names(policy, SpiffeId.of(PARTNER, "/web"), home=PARTNER) == ["rule-1", "rule-2"]


def test_one_rule_naming_a_caller_twice_is_one_candidate() -> None:
    assert names(policy_of([["/web", "/web"]]), SpiffeId.of(HOME, "/web")) == ["rule-1"]


def test_an_empty_list_has_no_candidates() -> None:
    assert names(policy_of([]), SpiffeId.of(HOME, "/web")) == []


def test_a_caller_of_a_thousand_segments_and_patterns_as_deep_are_walked_flat() -> None:
    deep = "/a" * 1000
    policy = policy_of([[deep], ["/*" * 1000], ["/a/**"], ["/a/b"]])
    assert names(policy, SpiffeId.of(HOME, deep)) == ["rule-1", "rule-2", "rule-3"]
    assert names(policy, SpiffeId.of(HOME, deep + "/a")) == ["rule-3"]


def test_a_policy_knows_where_it_came_from() -> None:
    policy = policy_of([["/web"]])
    assert (policy.file, policy.generation, len(policy.content_hash)) == ("x.allow.toml", 7, 12)
    assert repr(policy) == f"<Policy x.allow.toml generation 7 ({policy.content_hash}), 1 rules>"


def test_expired_rules_are_listed_for_a_warning() -> None:
    text = '[[allow]]\nfrom = "/a"\nexpires = 2026-01-01\n[[allow]]\nfrom = "/b"\nexpires = 2027-01-01\n'
    policy = compile_policy(parse_allow_list(text.encode(), file="f"))
    assert [rule.name for rule in policy.expired(datetime(2026, 1, 1, tzinfo=UTC))] == ["rule-1"]
    assert policy.generation == 1
