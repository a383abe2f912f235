"""What is learnt grants what was seen and the generalisations that are stated, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy import learning
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import decide_connection, decide_request
from meshproxy.policy.difference import difference
from meshproxy.policy.document import Document, Rule, parse_allow_list
from meshproxy.policy.learning import Learner, TooManyKinds, generalised
from meshproxy.policy.match import IdentityPattern, PathPattern
from meshproxy.policy.records import Record

if TYPE_CHECKING:
    import random

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def record(caller: str, method: str, path: str, decision: str = "would_deny", ts: str = "") -> Record:
    event = "request" if method else "connection"
    return Record(event, f"spiffe://mesh.test{caller}", method, path, decision, ts=ts)


def learnt(records: list[Record], against: tuple[Rule, ...] = ()) -> tuple[tuple[Rule, ...], str]:
    learner = Learner()
    for each in records:
        learner.take(each)
    proposals = list(learner.propose(HOME, against=against, now=NOW))
    text = "".join(each.text for each in proposals)
    rules = parse_allow_list(text.encode() or b"allow = []", file="x").rules
    return rules, text


segments = st.sampled_from(["a", "b", "7", "1234", "deadbeef01", "c0ffee", "0f8fad5b-d9cb-469f-a165-70867728950e"])
paths = st.lists(segments, min_size=1, max_size=3).map(lambda parts: "".join(f"/{part}" for part in parts)) | st.just(
    "/"
)
records = st.lists(
    st.builds(
        record,
        st.sampled_from(["/web", "/batch", "/x"]),
        st.sampled_from(["GET", "PUT", ""]),
        paths,
        st.sampled_from(["allow", "would_deny", "deny"]),
        st.sampled_from(["", "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"]),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(records, st.randoms(use_true_random=False))
def test_it_grants_just_what_was_seen_and_what_is_stated(seen: list[Record], dice: random.Random) -> None:
    requests = [each for each in seen if each.method]
    rules, text = learnt(requests)
    policy = compile_policy(Document("x", rules, ""))
    meant = tuple(
        Rule(
            f"m{n}",
            n,
            0,
            (IdentityPattern.parse(each.identity().path),),
            (each.method,),
            (PathPattern.parse(generalised(each.path)),),
        )
        for n, each in enumerate(requests)
        if each.decision != "deny"
    )
    assert list(difference(meant, rules, home=HOME, now=NOW)) == []
    for each in requests:
        if each.decision != "deny":
            assert decide_request(policy, each.identity(), each.method, each.path, home=HOME, now=NOW).granted
    dice.shuffle(requests)
    assert learnt(requests)[1] == text
    assert learnt(requests, against=rules) == ((), "")


@settings(max_examples=40, deadline=None)
@given(records)
def test_connections_are_learnt_as_such(seen: list[Record]) -> None:
    connections = [each for each in seen if not each.method]
    policy = compile_policy(Document("x", learnt(connections)[0], ""))
    granted = {each.caller for each in connections if each.decision != "deny"}
    for caller in ("/web", "/batch", "/x"):
        who = SpiffeId.of(HOME, caller)
        assert decide_connection(policy, who, home=HOME, now=NOW).granted == (str(who) in granted)


def test_it_says_how_often_when_what_stands_for_what_and_who_was_seen_once() -> None:
    _, text = learnt(
        [
            record("/web", "GET", "/orders/17", ts="2026-01-02T10:00:00.000Z"),
            record("/web", "GET", "/orders/4", ts="2026-01-01T10:00:00.000Z"),
            record("/batch", "GET", "/orders/5", ts="2026-01-03T10:00:00.000Z"),
            record("/web", "PUT", "/orders/5"),
        ]
    )
    assert text == (
        "# 1 request, 2026-01-03T10:00:00\n"
        "# /orders/*: * stands for a number, as in /orders/5\n"
        "# REVIEW: /batch was seen once\n"
        '[[allow]]\nfrom = ["/batch"]\nmethods = ["GET"]\npaths = ["/orders/*"]\n'
        "# 3 requests, 2026-01-01T10:00:00 to 2026-01-02T10:00:00\n"
        "# /orders/*: * stands for a number, as in /orders/17, /orders/4, /orders/5\n"
        '[[allow]]\nfrom = ["/web"]\nmethods = ["GET", "PUT"]\npaths = ["/orders/*"]\n'
    )


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/orders/17/items/3", "/orders/*/items/*"),
        ("/u/0f8fad5b-d9cb-469f-a165-70867728950e", "/u/*"),
        ("/c/deadbeef", "/c/deadbeef"),  # a word of letters alone is a word
        ("/c/deadbee7", "/c/*"),
        ("/c/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/c/*"),
        ("/v1/x", "/v1/x"),
        ("/", "/"),
        ("/a/", "/a/"),
    ],
)
def test_what_looks_like_an_identifier(path: str, pattern: str) -> None:
    assert generalised(path) == pattern


def test_a_path_that_no_pattern_names_is_told_and_not_proposed() -> None:
    learner = Learner()
    for path in ("/a/*", "/a*b", "*"):
        learner.take(record("/web", "OPTIONS", path))
    assert list(learner.propose(HOME, now=NOW)) == []
    assert learner.unwritable == {"OPTIONS /a/*", "OPTIONS /a*b", "OPTIONS *"}


def test_what_was_denied_is_learnt_only_if_asked_for() -> None:
    for with_denied, taken in ((False, 0), (True, 1)):
        learner = Learner(with_denied=with_denied)
        learner.take(record("/web", "GET", "/a", "deny"))
        learner.take(Record("handshake_failed", "", ts="x"))
        learner.take(Record("request", "no identity", "GET", "/", "allow"))
        assert learner.taken == taken


def test_who_was_refused_for_an_expired_certificate_is_nobody_to_learn_from() -> None:
    learner = Learner(with_denied=True)
    learner.take(Record("decision", "spiffe://mesh.test/web", "GET", "/a", "deny", reason="certificate_expired"))
    assert learner.taken == 0


def test_a_scanner_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_KINDS", 5)
    learner = Learner()
    for number in range(5):
        learner.take(record("/web", "GET", f"/x{number}"))
    learner.take(record("/web", "GET", "/x1"))
    with pytest.raises(TooManyKinds):
        learner.take(record("/web", "GET", "/x6"))


@pytest.mark.parametrize("method", ["get", "*", "M" * 65])
def test_a_method_that_no_rule_can_name_is_told_and_not_proposed(method: str) -> None:
    learner = Learner()
    learner.take(record("/web", method, "/a"))
    assert list(learner.propose(HOME, now=NOW)) == []
    assert learner.unwritable == {f"{method} /a"}


def test_a_trust_domains_own_name_is_no_caller_to_learn_from() -> None:
    assert learnt([record("", "GET", "/a")]) == ((), "")


def test_a_time_that_is_none_ends_no_comment() -> None:
    _, text = learnt([record("/web", "GET", "/a", ts='\n[[allow]]\nfrom="/x"')])
    assert text.startswith('# 1 request\n# REVIEW: /web was seen once\n[[allow]]\nfrom = ["/web"]\n')
