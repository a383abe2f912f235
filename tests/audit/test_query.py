"""Who, what, since when, and how it was decided."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ca.spiffe_id import TrustDomain
from meshproxy.audit.query import Question, What
from meshproxy.policy.match import IdentityPattern
from tests.audit.conftest import decision

ASKED = decision(30, method="GET", path="/orders/7", decision="deny")
CONNECTED = decision(30)
THEN = datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("question", "requests", "connections"),
    [
        (Question(), True, True),
        (Question(who=IdentityPattern.parse("/web")), True, True),
        (Question(who=IdentityPattern.parse("/*")), True, True),
        (Question(who=IdentityPattern.parse("/batch")), False, False),
        (Question(who=IdentityPattern.parse("/web"), home=TrustDomain("other.test")), False, False),
        (Question(who=IdentityPattern.parse("spiffe://mesh.test/**")), True, True),
        (Question(what=What.parse("GET")), True, False),
        (Question(what=What.parse("POST")), False, False),
        (Question(what=What.parse("/orders/*")), True, False),
        (Question(what=What.parse("GET /orders/**")), True, False),
        (Question(what=What.parse("POST /orders/**")), False, False),
        (Question(decisions=("deny", "would_deny")), True, False),
        (Question(listener="api"), True, True),
        (Question(listener="other"), False, False),
        (Question(since=THEN), True, True),
        (Question(until=THEN), False, False),
    ],
)
def test_all_that_is_given_has_to_match(question: Question, requests: bool, connections: bool) -> None:  # noqa: FBT001
    assert (question.match(ASKED), question.match(CONNECTED)) == (requests, connections)


@pytest.mark.parametrize("ts", ["2026-11-01T12:00:30", "2026-11-01", "yesterday", ""])
def test_a_time_that_no_sidecar_writes_is_at_no_time(ts: str) -> None:
    """In a log that somebody else has written into; `verify` tells of that."""
    strange = decision(30, ts=ts)
    assert not Question(since=THEN).match(strange)
    assert not Question(until=THEN).match(strange)
    assert Question().match(strange)


@pytest.mark.parametrize("text", ["", " ", "a b c", "GET orders", "/a/../b"])
def test_what_cannot_be_asked_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        What.parse(text)
