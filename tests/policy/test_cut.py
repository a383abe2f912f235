"""Whether an allow-list may have been read while it was being written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.errors import FaultyInput
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.cut import has_lost_conditions, looks_cut_short
from meshproxy.policy.decide import decide_connection, decide_request
from meshproxy.policy.document import parse_allow_list

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 1, tzinfo=UTC)

WEB = '[[allow]]\nfrom = "/web"\n'
ONLY_GET = 'methods = ["GET"]\n'
ONLY_A = 'paths = ["/a"]\n'
FULL = WEB + ONLY_GET + ONLY_A
OVER = "expires = 2026-01-01\n"
NEXT_YEAR = "expires = 2027-01-01\n"


def policy(text: str) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="x.allow.toml"))


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (FULL, WEB, True),
        (FULL, WEB + ONLY_GET, True),
        (FULL + NEXT_YEAR, FULL, True),
        (FULL, WEB.replace("web", "batch"), False),  # nobody knows it yet
        (WEB, FULL, False),
        (None, WEB, False),
        ('[[allow]]\nname = "r"\n' + FULL.removeprefix("[[allow]]\n"), '[[allow]]\nname = "r"\nfrom = "/b"\n', True),
    ],
)
def test_what_a_file_cut_for_good_looks_like(old: str | None, new: str, lost: bool) -> None:  # noqa: FBT001 - a table
    assert has_lost_conditions(None if old is None else policy(old), policy(new).rules[-1]) is lost


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (None, WEB, 1),
        (None, WEB + ONLY_GET, 1),  # `paths` may follow
        (None, WEB + ONLY_A, 1),
        (None, FULL, None),
        (None, "allow = []", None),
        (FULL, WEB, 1),
        (FULL, WEB + ONLY_GET, 1),
        (WEB, WEB, None),  # it was meant so before
        (WEB + ONLY_GET, WEB + ONLY_GET, None),
        (WEB + ONLY_GET, WEB, 1),
        (WEB + FULL, WEB, None),
        (WEB + OVER, WEB, 1),  # the old rule granted no more
        (FULL + OVER, FULL, 1),
        (FULL + NEXT_YEAR, FULL, 1),
        (FULL, FULL + OVER, None),
        (FULL, FULL + WEB.replace("web", "batch"), 5),
        (FULL, WEB.replace("web", "batch") + FULL, None),  # a whole rule stands behind it
        (WEB.replace('"/web"', '["/web", "/b"]'), WEB, 1),  # who is wider elsewhere is not known to be meant so
    ],
)
def test_what_may_be_missing_its_end_on_an_http_listener(old: str | None, new: str, line: int | None) -> None:
    found = looks_cut_short(None if old is None else policy(old), policy(new), http=True)
    assert (None if found is None else found.line) == line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [(None, WEB, None), ("allow = []", WEB, None), (WEB + OVER, WEB, 1), (WEB + OVER, WEB + NEXT_YEAR, None)],
)
def test_a_tcp_rule_can_lose_its_expiry_only(old: str | None, new: str, line: int | None) -> None:
    found = looks_cut_short(None if old is None else policy(old), policy(new), http=False)
    assert (None if found is None else found.line) == line


OLD_HTTP = """\
[[allow]]
from = ["/web", "/batch/*"]
methods = ["GET", "HEAD"]
paths = ["/a", "/docs/**"]

[[allow]]
name = "gone"
from = "/old"
methods = "GET"
paths = "/a"
expires = 2026-01-01
"""
NEW_HTTP = """\
[[allow]]
name = "charges"   # who may charge
from = ["/checkout", "/web"]
methods = ["POST"]
paths = ["/a/*", "/docs"]
reason = "checkout takes payments"

[[allow]]
paths = ["/a"]
from = "/batch/*"
methods = ["GET"]

[[allow]]
name = "gone"
from = "/old"
methods = "GET"
paths = "/a"
owner = "team-pay"
expires = 2026-01-01
"""
OLD_TCP = '[[allow]]\nfrom = "/web"\n\n[[allow]]\nfrom = "/old"\nexpires = 2026-01-01\n'
NEW_TCP = (
    '[[allow]]\nfrom = ["/batch/*", "/checkout"]\n\n[[allow]]\nfrom = "/old"\nreason = "x"\nexpires = 2026-01-01\n'
)

CALLERS = [SpiffeId.parse(f"spiffe://mesh.test{path}") for path in ("/web", "/batch/7", "/checkout", "/old", "/eve")]


def granted(policy: Policy, *, http: bool) -> set[tuple[str, ...]]:
    """Everything of a table that this allow-list grants."""
    if not http:
        return {(str(c),) for c in CALLERS if decide_connection(policy, c, home=HOME, now=NOW).granted}
    return {
        (str(caller), method, path)
        for caller in CALLERS
        for method in ("GET", "HEAD", "POST", "DELETE")
        for path in ("/", "/a", "/a/1", "/docs", "/docs/x/y", "/secret")
        if decide_request(policy, caller, method, path, home=HOME, now=NOW).granted
    }


@pytest.mark.parametrize(("old", "new", "http"), [(OLD_HTTP, NEW_HTTP, True), (OLD_TCP, NEW_TCP, False)])
def test_no_prefix_of_a_file_is_taken_up_that_is_wider_than_both_versions(
    old: str,
    new: str,
    http: bool,  # noqa: FBT001 - a row of the table
) -> None:
    before = policy(old)
    bound = granted(before, http=http) | granted(policy(new), http=http)
    taken_up = held = 0
    for length in range(len(new) + 1):
        try:
            prefix = policy(new[:length])
        except FaultyInput:
            continue
        if looks_cut_short(before, prefix, http=http) is not None:
            held += 1
            continue
        taken_up += 1
        assert granted(prefix, http=http) <= bound, new[:length]
    assert taken_up >= 5
    assert held >= 2
