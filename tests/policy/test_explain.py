from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import Condition
from meshproxy.policy.document import parse_allow_list
from meshproxy.policy.explain import (
    MAX_PATTERNS,
    Distance,
    Nearest,
    explain_request,
    nearest_rule,
    nearest_rule_of_request,
)

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


REQUESTS = """[[allow]]
name = "reads"
from = "/web"
methods = ["GET", "OPTIONS"]
paths = ["/orders", "/orders/*/lines"]
[[allow]]
name = "old"
from = "/web"
methods = "PUT"
expires = 2026-01-01
[[allow]]
name = "ops"
from = "/ops"
methods = "GET"
"""


def request_policy(text: str = REQUESTS) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="orders.allow.toml"))


def nearest_request(caller: str, method: str, path: str, text: str = REQUESTS) -> Nearest | None:
    return nearest_rule_of_request(request_policy(text), SpiffeId.of(HOME, caller), method, path, home=HOME, now=NOW)


@pytest.mark.parametrize(
    ("caller", "method", "path", "distance", "told"),
    [
        (
            "/web",
            "HEAD",
            "/orders",
            Distance.METHOD,
            (
                'rule "reads" (orders.allow.toml:1) grants the caller GET, OPTIONS on /orders, the request is "HEAD": '
                "GET does not imply HEAD"
            ),
        ),
        (
            "/web",
            "get",
            "/orders/7/lines",
            Distance.METHOD,
            (
                'rule "reads" (orders.allow.toml:1) grants the caller GET, OPTIONS on /orders/*/lines, the request is '
                '"get": methods are case-sensitive'
            ),
        ),
        (
            "/ops",
            "POST",
            "/orders",
            Distance.METHOD,
            'rule "ops" (orders.allow.toml:11) grants the caller GET on any path, the request is "POST"',
        ),
        (
            "/web",
            "PUT",
            "/orders",
            Distance.EXPIRED,
            'rule "old" (orders.allow.toml:6) grants the caller any path, but expired 2026-01-01 00:00 UTC',
        ),
        (
            "/Web",
            "GET",
            "/orders",
            Distance.CASE,
            (
                'rule "reads" (orders.allow.toml:1) grants /web, the caller is /Web: they differ in upper and lower case '
                "only"
            ),
        ),
    ],
)
def test_why_the_nearest_rule_did_not_grant_a_request(
    caller: str, method: str, path: str, distance: Distance, told: str
) -> None:
    nearest = nearest_request(caller, method, path)
    assert nearest is not None
    assert (nearest.distance, str(nearest)) == (distance, told)


@pytest.mark.parametrize(
    ("path", "distance", "pattern", "phrase"),
    [
        ("/Orders", Distance.PATH_CASE, "/orders", "upper and lower case only"),
        ("/orders/", Distance.PATH_LENGTH, "/orders", "/a is not /a/"),
        ("/orders/7", Distance.PATH_LENGTH, "/orders", "one is longer"),
        ("/orders/7/items", Distance.PATH_SEGMENT, "/orders/*/lines", "one segment differs"),
        ("/orders//lines", Distance.PATH_SEGMENT, "/orders/*/lines", "one segment differs"),
        ("/admin", Distance.PATH, "/orders", "another path"),
        ("*", Distance.PATH, "/orders", "another path"),
    ],
)
def test_how_near_a_path_came(path: str, distance: Distance, pattern: str, phrase: str) -> None:
    text = REQUESTS.partition('[[allow]]\nname = "old"')[0]
    nearest = nearest_request("/web", "GET", path, text)
    assert nearest is not None
    assert nearest.distance is distance
    assert nearest.text.startswith(f'rule "reads" (orders.allow.toml:1) grants the caller {pattern}, the request is')
    assert f'"{path}": ' in nearest.text
    assert phrase in nearest.text


def test_a_rule_for_the_caller_is_nearer_than_any_for_others() -> None:
    assert max(d for d in Distance if d <= Distance.PATH) < min(d for d in Distance if d >= Distance.TRUST_DOMAIN)
    assert nearest_request("/nobody/at/all", "GET", "/orders") is None


def test_what_a_caller_wrote_is_escaped_and_cut() -> None:
    for method, path in (("G\nET", "/orders"), ("GET", "/\x1b[2J\u202e" + "a" * 9000)):
        nearest = nearest_request("/web", method, path, REQUESTS.replace("2026-01-01", "2026-12-01"))
        assert nearest is not None
        assert nearest.text.isprintable()
        assert len(nearest.text) < 400


def test_the_patterns_looked_at_are_bounded() -> None:
    text = '[[allow]]\nfrom = "/web"\npaths = [' + '"/x/y",' * MAX_PATTERNS + '"/Orders"]'
    nearest = nearest_request("/web", "GET", "/orders", text)
    assert nearest is not None
    assert nearest.distance is Distance.PATH


def test_every_rule_says_where_it_stopped() -> None:
    verdicts = explain_request(request_policy(), SpiffeId.of(HOME, "/web"), "PUT", "/orders", home=HOME, now=NOW)
    assert [verdict.failed for verdict in verdicts] == [Condition.METHOD, Condition.EXPIRY, Condition.CALLER]
    assert [str(verdict) for verdict in verdicts] == [
        'rule "reads" (orders.allow.toml:1) grants the caller other methods on this path',
        'rule "old" (orders.allow.toml:6) granted this, but expired',
        'rule "ops" (orders.allow.toml:11) does not grant the caller',
    ]
    verdicts = explain_request(request_policy(), SpiffeId.of(HOME, "/web"), "GET", "/orders", home=HOME, now=NOW)
    assert (verdicts[0].failed, str(verdicts[0])) == (None, 'rule "reads" (orders.allow.toml:1) grants')
    assert verdicts[1].failed is Condition.METHOD
    verdicts = explain_request(request_policy(), SpiffeId.of(HOME, "/web"), "GET", "/admin", home=HOME, now=NOW)
    assert str(verdicts[0]).endswith("grants the caller other paths")
