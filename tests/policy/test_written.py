"""Rules written as TOML are read back as they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.document import Rule, parse_allow_list
from meshproxy.policy.match import IdentityPattern, PathPattern
from meshproxy.policy.written import quoted, rule_text

texts = st.text(max_size=30)
moments = st.datetimes(timezones=st.just(UTC)) | st.dates(date(1000, 1, 1)).map(
    lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC)
)


@st.composite
def some_rule(draw: st.DrawFn) -> Rule:
    callers = draw(st.lists(st.sampled_from(["/a", "/b/*", "spiffe://other.test/x/**", "/c/" + "x" * 90]), min_size=1))
    paths = draw(st.none() | st.lists(st.sampled_from(["/", "/x/*/y", "/docs/**", "/%20a", "/q/"]), min_size=1))
    return Rule(
        draw(st.sampled_from(["rule-1", "web-reads"])),
        1,
        1,
        tuple(map(IdentityPattern.parse, callers)),
        draw(st.none() | st.lists(st.sampled_from(["GET", "X-Y"]), min_size=1).map(tuple)),
        None if paths is None else tuple(map(PathPattern.parse, paths)),
        draw(texts),
        draw(texts),
        draw(st.none() | moments),
        draw(st.none() | st.booleans()),
    )


@given(some_rule())
def test_a_rule_is_read_back_as_it_was(rule: Rule) -> None:
    read = parse_allow_list(rule_text(rule).encode("utf-8"), file="x").rules
    assert read == (rule,)


@given(texts)
def test_any_text_is(text: str) -> None:
    rule = Rule("rule-1", 1, 1, (IdentityPattern.parse("/a"),), reason=text)
    assert parse_allow_list(rule_text(rule).encode(), file="x").rules[0].reason == text
    assert "\n" not in quoted(text)


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    rule = Rule("rule-1", 1, 1, (IdentityPattern.parse("/a"),), expires=datetime(2027, 3, 1, tzinfo=UTC))
    assert "expires = 2027-03-01\n" in rule_text(rule)
    moved = replace(rule, expires=datetime(2027, 3, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert parse_allow_list(rule_text(moved).encode(), file="x").rules[0].expires == rule.expires
