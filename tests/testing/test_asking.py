"""Allow-lists as assertions: the evaluator of the sidecar, and a failure that says which rule came nearest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from meshproxy.testing import MeshError, assert_allowed, assert_denied

if TYPE_CHECKING:
    from pathlib import Path

READS = '[[allow]]\nname = "reads"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/orders/**"]\n'
AUDIT = '[[allow]]\nname = "audit"\nfrom = "/auditor"\nexpires = 2027-01-01\n'
IN_TIME, LATE = datetime(2026, 12, 31, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def test_what_is_granted_is_allowed_by_its_rule() -> None:
    assert_allowed(READS, from_="/web", method="GET", path="/orders/7?x=1")
    assert_allowed(READS, from_="/web", method="GET", path="/orders/%37", rule="reads")
    assert_allowed(READS, from_="spiffe://mesh.test/web", method="GET", path="/orders")
    assert_allowed(AUDIT, from_="/auditor", at=IN_TIME)  # a connection
    assert_allowed(AUDIT, from_="/auditor", method="DELETE", path="/", at=IN_TIME)


def test_what_is_not_granted_is_denied_for_its_reason() -> None:
    assert_denied(READS, from_="/web", method="POST", path="/orders/7", reason="method")
    assert_denied(READS, from_="/web", method="GET", path="/admin", reason="path")
    assert_denied(READS, from_="/shop", method="GET", path="/orders", reason="no_rule")
    assert_denied(AUDIT, from_="/auditor", reason="expired_grant", at=LATE)
    assert_denied(READS, from_="spiffe://else.test/web", method="GET", path="/orders", trust_domain="mesh.test")
    assert_denied(READS, from_="/web", method="GET", path="/orders/../admin")  # refused before any rule is asked


@pytest.mark.parametrize(
    ("caller", "method", "path", "words"),
    [
        (
            "/web",
            "POST",
            "/orders/7?secret",
            'denied (method), expected allowed\nnearest: rule "reads" (the allow-list',
        ),
        ("/weg", "GET", "/orders/7", "denied (no_rule), expected allowed\nnearest: "),
        ("/auditor", "GET", "/orders/7", "denied (no_rule), expected allowed\nno rule comes near"),
        ("/web", "GET", "/orders//7", "/web GET /orders//7: refused before any rule is asked: "),
    ],
)
def test_a_failure_says_what_was_found_and_what_came_nearest(caller: str, method: str, path: str, words: str) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_allowed(READS, from_=caller, method=method, path=path)
    assert words in str(failed.value)


def test_a_failure_names_the_rule_that_decided() -> None:
    with pytest.raises(AssertionError, match="expected rule 'writes' to decide"):
        assert_allowed(READS, from_="/web", method="GET", path="/orders", rule="writes")
    with pytest.raises(AssertionError, match=r"allowed by 'reads' \(the allow-list of the test:1\), expected denied"):
        assert_denied(READS, from_="/web", method="GET", path="/orders")
    with pytest.raises(AssertionError, match=r"denied \(path\), expected method as the reason"):
        assert_denied(READS, from_="/web", method="GET", path="/", reason="method")
    with pytest.raises(AssertionError, match=r"but expired 2027-01-01"):
        assert_allowed(AUDIT, from_="/auditor", at=LATE)


def test_a_file_is_named_by_a_path(tmp_path: Path) -> None:
    file = tmp_path / "orders.allow.toml"
    file.write_text(READS)
    assert_allowed(file, from_="/web", method="GET", path="/orders")
    with pytest.raises(MeshError, match="is a directory; name the allow-list in it that is asked"):
        assert_allowed(tmp_path, from_="/web")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"from_": "web"}, "'web' is no identity such as /web"),
        ({"from_": "/web", "method": "GET"}, "a request has both `method` and `path`, a connection neither"),
        ({"from_": "/web", "reason": "because"}, "'because' is no reason for a denial; there are no_rule, "),
        ({"from_": "/web", "trust_domain": "Mesh"}, "'/web' is no identity"),
        ({"from_": "/web"}, 'the listener asked about has protocol = "tcp"'),
    ],
)
def test_what_cannot_be_asked_is_told_in_words(asked: dict[str, str], words: str) -> None:
    with pytest.raises(MeshError) as told:
        assert_denied(READS, **asked)  # type: ignore[arg-type]  # wrong on purpose
    assert words in str(told.value)
