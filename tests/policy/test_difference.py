"""Difference by meaning: empty if and only if no request is decided differently, now or later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import decide_request
from meshproxy.policy.difference import Change, Kind, difference
from meshproxy.policy.document import Document, Rule, parse_allow_list
from meshproxy.policy.match import IdentityPattern, PathPattern

if TYPE_CHECKING:
    from collections.abc import Sequence

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
LATER = [NOW, NOW + timedelta(days=1), NOW + timedelta(days=2), NOW + timedelta(days=3)]


def rules(text: str) -> tuple[Rule, ...]:
    return parse_allow_list(text.encode(), file="x.allow.toml").rules


def changes(old: str, new: str) -> list[tuple[str, str, str]]:
    found = difference(rules(old), rules(new), home=HOME, now=NOW)
    return [(each.kind.value, each.grant.rule.name, str(each.example)) for each in found]


# An evaluator of its own, as plain as the rules are written: it shares no code with what is tested.


@cache
def plain_match(pattern: str, text: str) -> bool:
    wanted, found = pattern.split("/")[1:], text.split("/")[1:]
    if wanted[-1] == "**":
        if len(found) < len(wanted) - 1:
            return False
        wanted, found = wanted[:-1], found[: len(wanted) - 1]
    return len(wanted) == len(found) and all(
        (w == "*" and f != "") or w == f for w, f in zip(wanted, found, strict=True)
    )


def plainly_granted(among: Sequence[Rule], caller: str, method: str, path: str, now: datetime) -> bool:
    return any(
        any(plain_match(each.text.removeprefix("spiffe://mesh.test"), caller) for each in rule.callers)
        and (rule.methods is None or method in rule.methods)
        and (rule.paths is None or (path != "*" and any(plain_match(each.text, path) for each in rule.paths)))
        and (rule.expires is None or now < rule.expires)
        for rule in among
    )


names = st.sampled_from(["a", "b", "*"])
caller_patterns = st.builds(
    lambda parts, tail, full: ("spiffe://mesh.test" if full else "") + "".join(f"/{p}" for p in parts) + tail,
    st.lists(names, min_size=1, max_size=2),
    st.sampled_from(["", "", "/**"]),
    st.booleans(),
)
path_patterns = st.builds(
    lambda parts, tail: "".join(f"/{p}" for p in parts) + tail,
    st.lists(names, min_size=1, max_size=2),
    st.sampled_from(["", "", "/", "/**"]),
) | st.sampled_from(["/", "/**"])


@st.composite
def some_rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    def rule(ordinal: int) -> Rule:
        callers = draw(st.lists(caller_patterns, min_size=1, max_size=2))
        paths = draw(st.none() | st.lists(path_patterns, min_size=1, max_size=2))
        return Rule(
            f"rule-{ordinal}",
            ordinal,
            ordinal,
            tuple(map(IdentityPattern.parse, callers)),
            draw(st.none() | st.lists(st.sampled_from(["GET", "OPTIONS", "PUT"]), min_size=1, max_size=2).map(tuple)),
            None if paths is None else tuple(map(PathPattern.parse, paths)),
            expires=draw(st.sampled_from([None, None, NOW, NOW + timedelta(days=1), NOW + timedelta(days=2)])),
        )

    return tuple(rule(ordinal) for ordinal in range(1, draw(st.integers(0, 4)) + 1))


CALLERS = ["".join(f"/{p}" for p in parts) for n in (1, 2, 3) for parts in product(("a", "b", "zz"), repeat=n)]
PATHS = ["*", "/", *CALLERS, *(f"{each}/" for each in CALLERS if each.count("/") < 3)]
METHODS = ["GET", "OPTIONS", "PUT", "ZAP"]


@cache
def plainly_matched(patterns: tuple[str, ...] | None) -> frozenset[str]:
    if patterns is None:
        return frozenset(PATHS)
    return frozenset(path for path in PATHS if path != "*" and any(plain_match(each, path) for each in patterns))


def plainly_granted_paths(among: Sequence[Rule], caller: str, method: str, now: datetime) -> frozenset[str]:
    granted = frozenset[str]().union(
        *(
            plainly_matched(None if rule.paths is None else tuple(each.text for each in rule.paths))
            for rule in among
            if any(plain_match(each.text.removeprefix("spiffe://mesh.test"), caller) for each in rule.callers)
            and (rule.methods is None or method in rule.methods)
            and (rule.expires is None or now < rule.expires)
        )
    )
    return granted if method == "OPTIONS" else granted - {"*"}


@settings(max_examples=60, deadline=None)
@given(some_rules(), some_rules())
def test_there_is_no_change_if_and_only_if_no_request_is_decided_differently(
    old: tuple[Rule, ...], new: tuple[Rule, ...]
) -> None:
    found = list(difference(old, new, home=HOME, now=NOW))
    differs = any(
        plainly_granted_paths(old, *asked, now) != plainly_granted_paths(new, *asked, now)
        for now in LATER
        for asked in product(CALLERS, METHODS)
    )
    assert bool(found) == differs
    for each in found:
        example_holds(each, old, new)


def example_holds(change: Change, old: Sequence[Rule], new: Sequence[Rule]) -> None:
    """Its example is decided differently, in the way it says, as long as the grant lasts; by the real evaluator."""
    more, less = (new, old) if change.kind in {Kind.APPEARS, Kind.WIDENS} else (old, new)
    expires = change.grant.expires
    at = NOW if expires is None else expires - timedelta(seconds=1)
    at = at if expires is not None else LATER[-1]
    caller = SpiffeId.of(HOME, change.example.caller)
    decided = [
        decide_request(
            compile_policy(Document("x", tuple(each), "")),
            caller,
            change.example.method,
            change.example.path,
            home=HOME,
            now=at,
        ).granted
        for each in (more, less)
    ]
    assert decided == [True, False]
    asked = (change.example.caller, change.example.method, change.example.path)
    if change.since is None:
        assert not plainly_granted(less, *asked, NOW)
    else:
        assert plainly_granted(less, *asked, change.since - timedelta(seconds=1))
        assert not plainly_granted(less, *asked, change.since)


@settings(max_examples=40, deadline=None)
@given(some_rules())
def test_a_list_does_not_differ_from_itself_in_another_order(list_: tuple[Rule, ...]) -> None:
    assert list(difference(list_, tuple(reversed(list_)), home=HOME, now=NOW)) == []


WEB = '[[allow]]\nname = "web"\nfrom = "/web"\n'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (WEB, WEB + '[[allow]]\nfrom = "spiffe://mesh.test/web"\nmethods = ["GET"]\n', []),
        ("allow = []", WEB, [("appears", "web", "spiffe://mesh.test/web GET /other")]),
        (WEB, "allow = []", [("vanishes", "web", "spiffe://mesh.test/web GET /other")]),
        (
            WEB + 'paths = ["/a/*"]\n',
            WEB + 'paths = ["/a/**"]\n',
            [("widens", "web", "spiffe://mesh.test/web OPTIONS /a")],
        ),
        (WEB + 'paths = ["/**"]\n', WEB, [("widens", "web", "spiffe://mesh.test/web OPTIONS *")]),
        (WEB + "expires = 2026-12-01\n", WEB, [("widens", "web", "spiffe://mesh.test/web GET /other")]),
        (WEB + "expires = 2020-12-01\n", "allow = []", []),
        (
            '[[allow]]\nname = "web"\nfrom = "spiffe://other.test/web"\n',
            WEB,
            [
                ("appears", "web", "spiffe://mesh.test/web GET /other"),
                ("vanishes", "web", "spiffe://other.test/web GET /other"),
            ],
        ),
    ],
)
def test_examples(old: str, new: str, expected: list[tuple[str, str, str]]) -> None:
    assert changes(old, new) == expected


@pytest.mark.long
def test_ten_thousand_rules_are_compared_with_as_many_others() -> None:
    def many(first: int) -> tuple[Rule, ...]:
        return tuple(
            Rule(f"r{n}", n, n, (IdentityPattern.parse("/web"),), ("GET",), (PathPattern.parse(f"/v1/things/{n}"),))
            for n in range(first, first + 10_000)
        )

    found = list(difference(many(0), many(5_000), home=HOME, now=NOW))
    assert len(found) == 10_000
    assert {each.kind for each in found} == {Kind.APPEARS, Kind.VANISHES}
