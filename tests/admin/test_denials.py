"""A refusal as a row: the rule that came nearest, and an edit that really grants it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.admin.denials import Explainer, NearestRule
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import decide_connection, decide_request
from meshproxy.policy.document import parse_allow_list
from meshproxy.telemetry.denials import Refused

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
LIST = """
[[allow]]
name = "web-reads"
from = "/web"
methods = ["GET"]
paths = ["/docs/**"]

[[allow]]
name = "once"
from = "/shop"
expires = 2026-01-01
"""


def policy(text: str = LIST) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="api.allow.toml"))


def refused(caller: str, asked: str, reason: str = "no_rule") -> Refused:
    return Refused("api", "deny", caller, asked, reason, 3, 1.0, 2.0)


@pytest.mark.parametrize(
    ("caller", "asked", "nearest"),
    [
        ("spiffe://mesh.test/web", "DELETE /docs/a", NearestRule("web-reads", "api.allow.toml", 2, "method")),
        ("spiffe://mesh.test/web", "GET /secret", NearestRule("web-reads", "api.allow.toml", 2, "path")),
        ("spiffe://mesh.test/webb", "GET /docs/a", NearestRule("web-reads", "api.allow.toml", 2, "caller")),
        ("spiffe://mesh.test/shop", "GET /docs/a", NearestRule("once", "api.allow.toml", 8, "expiry")),
        ("spiffe://partner.test/web", "GET /docs/a", NearestRule("web-reads", "api.allow.toml", 2, "caller")),
        ("spiffe://mesh.test/elsewhere/entirely", "GET /x", None),
        ("spiffe://mesh.test/shop", "", NearestRule("once", "api.allow.toml", 8, "expiry")),
    ],
)
def test_a_row_names_the_nearest_rule_and_an_edit_that_grants_it(
    caller: str, asked: str, nearest: NearestRule | None
) -> None:
    row = Explainer().row(refused(caller, asked), policy(), home=HOME, now=NOW)
    assert row.nearest == nearest
    assert (row.count, row.at, row.last, row.principal) == (3, 1.0, 2.0, caller)
    assert [row.method, row.path] == (asked.split(" ") if asked else ["", ""])
    assert row.explanation
    edited = policy(row.edit if row.edit.startswith("# in place") else LIST + row.edit)
    who = SpiffeId.parse(caller)
    decision = (
        decide_request(edited, who, row.method, row.path, home=HOME, now=NOW)
        if asked
        else decide_connection(edited, who, home=HOME, now=NOW)
    )
    assert decision.granted


def test_what_is_granted_by_now_says_so() -> None:
    row = Explainer().row(refused("spiffe://mesh.test/web", "GET /docs/a"), policy(), home=HOME, now=NOW)
    assert row.explanation.startswith('it is granted by now, by rule "web-reads" (api.allow.toml:2)')
    assert (row.nearest, row.edit) == (None, "")


def test_what_no_rule_can_name_has_no_edit() -> None:
    row = Explainer().row(refused("spiffe://mesh.test/web", "GET /a/*"), policy(), home=HOME, now=NOW)
    assert row.edit == ""
    assert row.nearest is not None


def test_a_listener_that_is_gone_and_a_caller_that_is_none() -> None:
    gone = Explainer().row(refused("spiffe://mesh.test/web", "GET /x"), None, home=HOME, now=NOW)
    assert gone.explanation == 'there is no listener "api" any more'
    strange = Explainer().row(refused("not a name \x1b[2J", "GET /x"), policy(), home=HOME, now=NOW)
    assert strange.explanation.isprintable()


def test_what_was_explained_is_known_until_the_list_changes() -> None:
    explainer, row = Explainer(), refused("spiffe://mesh.test/web", "GET /secret")
    first = explainer.row(row, policy(), home=HOME, now=NOW)
    assert explainer.row(row, policy(), home=HOME, now=NOW) == first
    assert "knows 1" in repr(explainer)
    edited = policy(first.edit)
    assert "granted by now" in explainer.row(row, edited, home=HOME, now=NOW).explanation
    for number in range(2000):
        explainer.row(refused(f"spiffe://mesh.test/{number}", "GET /x"), policy(), home=HOME, now=NOW)
    assert "knows 512" in repr(explainer)
