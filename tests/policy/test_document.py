from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.errors import FaultyInput
from meshproxy.policy.document import Document, parse_allow_list

FULL = """
[[allow]]
name = "checkout-charges"
from = ["/checkout", "/batch/*"]
methods = ["POST"]
paths = ["/charges", "/charges/*/refunds", "/docs/**"]
reason = "checkout takes payments"
owner = "team-pay"
expires = 2027-03-01

[[allow]]
from = "spiffe://partner.net/web"
expires = 2027-03-01T01:30:00+01:30
"""


def parse(text: str, tcp_listener: str | None = None) -> Document:
    return parse_allow_list(text.encode(), file="x.allow.toml", tcp_listener=tcp_listener)


def test_every_key_of_the_contract_is_read() -> None:
    document = parse(FULL)
    first, second = document.rules
    assert (first.name, first.ordinal, first.line) == ("checkout-charges", 1, 2)
    assert [str(pattern) for pattern in first.callers] == ["/checkout", "/batch/*"]
    assert first.methods == ("POST",)
    assert first.paths is not None
    assert [str(pattern) for pattern in first.paths] == ["/charges", "/charges/*/refunds", "/docs/**"]
    assert (first.reason, first.owner) == ("checkout takes payments", "team-pay")
    assert first.expires == datetime(2027, 3, 1, tzinfo=UTC)
    assert (second.name, second.ordinal, second.line) == ("rule-2", 2, 11)
    assert (second.methods, second.paths, second.reason, second.owner) == (None, None, "", "")
    assert second.expires == datetime(2027, 3, 1, tzinfo=UTC)
    assert second.expires.tzinfo is UTC


def test_an_inline_list_of_rules_has_the_line_of_each_rule() -> None:
    document = parse('allow = [\n  { from = "/a" },\n  { from = "/b" },\n]')
    assert [rule.line for rule in document.rules] == [2, 3]


def test_nobody_is_allowed_only_when_that_is_written() -> None:
    assert parse("allow = []").rules == ()
    assert parse("# nobody, by decision\nallow = []\n").rules == ()


def test_the_hash_tells_contents_apart() -> None:
    one, two = parse("allow = []"), parse("allow = [] ")
    assert one.content_hash != two.content_hash
    assert one.content_hash == hashlib.sha256(b"allow = []").hexdigest()[:12]


RULE = '[[allow]]\nfrom = "/a"\n'

BROKEN = [
    # content, line, where, found, expected, remedy
    ("", 1, "", "neither an [[allow]] rule nor `allow = []`", "at least one rule", "write `allow = []`"),
    ("# only a comment\n", 1, "", "neither an [[allow]] rule", "at least one rule", "Add [[allow]]"),
    ('[allow]\nfrom = "/a"', 1, "allow", "a table", "an array", "Write it as [[allow]]"),
    ('allow = "/a"', 1, "allow", 'the string "/a"', "an array", "Write it as [[allow]]"),
    ('allow = ["/a"]', 1, "allow[0]", 'the string "/a"', "a table", "Write it as [[allow]]"),
    (RULE + '[[alow]]\nfrom = "/b"', 3, "alow", 'the unknown key "alow"', "one of allow", "Did you mean `allow`?"),
    (RULE + 'deny = "/b"', 3, "allow[0].deny", 'the unknown key "deny"', "one of audit, expires", "Remove it"),
    (RULE + 'path = "/b"', 3, "allow[0].path", 'the unknown key "path"', "one of", "Did you mean `paths`?"),
    ('\n[[allow]]\nname = "a"', 2, "allow[0]", "no `from`", "`from` in this table", 'Add `from = ["/web"]`'),
    (
        "[[allow]]\nfrom = []",
        2,
        "allow[0].from",
        "an empty array",
        "at least one item",
        "like `from".replace("like", "in"),
    ),
    ("[[allow]]\nfrom = 3", 2, "allow[0].from", "3", "an array", 'from = ["/web"]'),
    ('[[allow]]\nfrom = [\n"/a",\n7,\n]', 4, "allow[0].from[1]", "7", "a string", 'from = ["/web"]'),
    ('[[allow]]\nfrom = ["/a",\n"b"]', 3, "allow[0].from[1]", 'the string "b"', "an identity such as /web", "from ="),
    ('[[allow]]\nfrom = "/a/"', 2, "allow[0].from", 'the string "/a/"', "a trailing / is not allowed", "from ="),
    ('[[allow]]\nfrom = "/a-*"', 2, "allow[0].from", 'the string "/a-*"', "only as a whole segment", "from ="),
    (RULE + 'name = ""', 3, "allow[0].name", 'the string ""', "a name of 1 to 64", 'name = "web-reads"'),
    (RULE + 'name = "a b"', 3, "allow[0].name", 'the string "a b"', "a name of 1 to 64", "name ="),
    (RULE + f'name = "{"a" * 65}"', 3, "allow[0].name", "the string", "a name of 1 to 64", "name ="),
    (RULE + "name = 5", 3, "allow[0].name", "5", "a string", "name ="),
    (
        RULE + 'name = "x"\n' + RULE + 'name = "x"',
        6,
        "allow[1].name",
        'the name "x", which the rule on line 1 has',
        "a name of its own",
        "Rename one",
    ),
    (
        RULE + 'name = "rule-2"\n' + RULE,
        4,
        "allow[1].name",
        'the name "rule-2", which the rule on line 1 has',
        "the default is rule-<ordinal>",
        "Rename one",
    ),
    (RULE + "methods = []", 3, "allow[0].methods", "an empty array", "at least one item", "methods ="),
    (RULE + 'methods = ["*"]', 3, "allow[0].methods[0]", 'the string "*"', "leave `methods` out", "methods ="),
    (
        RULE + 'methods = "get"',
        3,
        "allow[0].methods",
        'the string "get"',
        "GET: methods are case-sensitive",
        "methods =",
    ),
    (RULE + 'methods = "GE T"', 3, "allow[0].methods", 'the string "GE T"', "a token of RFC 9110", "methods ="),
    (RULE + 'paths = "a"', 3, "allow[0].paths", 'the string "a"', "begins with /", 'paths = ["/charges"'),
    (RULE + 'paths = ["/a", "/a%2Fb"]', 3, "allow[0].paths[1]", "%2Fb", "refused before any rule", "paths ="),
    (RULE + "reason = 3", 3, "allow[0].reason", "3", "a string", 'reason = "why'),
    (RULE + f'owner = "{"x" * 1001}"', 3, "allow[0].owner", "the string", "at most 1000 characters", "owner ="),
    (RULE + 'expires = "2027-03-01"', 3, "allow[0].expires", "the string", "a date without quotes", "expires = 2027"),
    (RULE + "expires = 2027-03-01T00:00:00", 3, "allow[0].expires", "2027-03-01", "an offset", "expires = 2027"),
    (RULE + "expires = 00:00:00", 3, "allow[0].expires", "00:00:00", "a date without quotes", "expires = 2027"),
    (RULE + "expires = 0001-01-01T00:00:00+01:00", 3, "allow[0].expires", "0001", "the years 1 to 9999", "expires ="),
    (RULE + "expires = 3", 3, "allow[0].expires", "3", "a date without quotes", "expires = 2027"),
    (RULE + 'audit = "denials"', 3, "allow[0].audit", "the string", "denials are recorded as the listener", "audit ="),
    (RULE + "audit = true", 3, "allow[0].audit", "true", "a string", "audit ="),
    (RULE + "x = ", 3, "", "a syntax error", "TOML 1.0", "Correct the syntax"),
    (RULE + 'from = "/b"', 3, "", "a syntax error", "TOML 1.0", "Correct the syntax"),
]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_allow_list_says_what_where_and_what_to_do(case: tuple[str, int, str, str, str, str]) -> None:
    content, line, where, found, expected, remedy = case
    with pytest.raises(FaultyInput) as refusal:
        parse(content)
    told = [p for p in refusal.value.problems if (p.line, p.where) == (line, where) and found in p.found]
    assert len(told) == 1, refusal.value
    assert told[0].file == "x.allow.toml"
    assert expected in told[0].expected
    assert remedy in told[0].remedy


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(FaultyInput) as refusal:
        parse('[[allow]]\nform = "/a"\nname = "a b"\n[[allow]]\nfrom = ["b", "c"]\nexpires = 1')
    assert [problem.line for problem in refusal.value.problems] == [1, 2, 3, 5, 5, 6]


def test_what_only_requests_have_is_refused_for_a_tcp_listener() -> None:
    with pytest.raises(FaultyInput) as refusal:
        parse(FULL, tcp_listener='listener "api" (side.toml:9)')
    methods, paths = refusal.value.problems
    assert (methods.line, methods.where) == (5, "allow[0].methods")
    assert methods.found == '`methods` in rule "checkout-charges"'
    assert 'listener "api" (side.toml:9) has protocol = "tcp"' in methods.expected
    assert (paths.line, paths.where) == (6, "allow[0].paths")
    assert "Remove `paths`" in paths.remedy


def test_expiry_ends_the_grant_at_the_very_instant() -> None:
    rule = parse(FULL).rules[0]
    midnight = datetime(2027, 3, 1, tzinfo=UTC)
    assert not rule.expired(midnight - timedelta(microseconds=1))
    assert rule.expired(midnight)
    assert rule.expired(datetime(2027, 3, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert not parse(RULE).rules[0].expired(datetime.max.replace(tzinfo=UTC))


@given(st.text(max_size=80) | st.text('[]alow="/b*\n ', max_size=80).map(lambda text: RULE + text))
def test_any_text_is_an_allow_list_or_refused(text: str) -> None:
    try:
        document = parse_allow_list(text.encode(), file="f")
    except FaultyInput as faulty:
        problems = faulty.problems
    else:
        problems = ()
        assert all(rule.callers for rule in document.rules)
    assert all(str(problem).isprintable() for problem in problems)


def test_no_truncation_of_a_list_grants_what_the_whole_does_not() -> None:
    # What narrows a rule stands before its `from`: a cut behind `from` would otherwise take the narrowing away.
    whole = (
        '[[allow]]\nexpires = 2027-03-01\nmethods = ["GET"]\nfrom = ["/web", "/batch/*"]\n'
        '[[allow]]\nname = "b"\npaths = "/docs/**"\nfrom = "spiffe://partner.net/a/b"\n'
        '[[allow]]\nfrom = """/c/d"""\n'
    )
    granted = {
        (str(pattern), rule.methods, rule.paths, rule.expires)
        for rule in parse(whole).rules
        for pattern in rule.callers
    }
    accepted = 0
    for end in range(len(whole)):
        try:
            document = parse(whole[:end])
        except FaultyInput:
            continue
        accepted += 1
        assert {
            (str(pattern), rule.methods, rule.paths, rule.expires)
            for rule in document.rules
            for pattern in rule.callers
        } <= granted
    assert 0 < accepted < 20
