"""Whatever two programs may read as two different paths is refused with 400 before any rule is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Origin, Pair

ALLOW = '[[allow]]\nfrom = "/web"\npaths = "/public/**"\n'

TRICKS = [
    "/public/../admin",
    "/public/..",
    "/public/./x",
    "/public/%2e%2e/admin",
    "/public/%2E./admin",
    "/public/.%2e",
    "/public/..;/admin",
    "/public/..;x=1/admin",
    "/public/%2e%2e%3b/admin",
    "/public/.;a",
    "/public/;/x",
    "/;x/public",
    "/public/%3bx",
    "/public/..%2fadmin",
    "/public/x%2Fy",
    "/public/%5cadmin",
    "/public/..\\admin",
    "/public/a%00b",
    "/public//admin",
    "//public/x",
    "//evil.test/public",
    "/public/x//",
    "/public/%",
    "/public/%2",
    "/public/%zz",
    "/public/a#b",
    "/public/\x7f",
    "/public/caf\xe9",
    "/public/a b",
    "public/x",
    "*",
    "http://user@api.test/public/x",
    "http://evil.test/public/x",
    "ftp://api.test/public/x",
    "http://api.test//public/x",
]


@pytest.mark.parametrize("target", TRICKS)
def test_a_trick_is_refused_with_400(pair: Pair, origin: Origin, target: str) -> None:
    for opened in (pair.mtls_caller, pair.caller):
        with opened() as caller:
            answer = caller.ask("GET", target)
            assert answer.status == 400
            assert answer.value("connection") == "close"
            assert caller.has_ended()  # where the next request begins is not believed any more

    assert origin.requests == []
    line = pair.api.log.request()
    assert (line.status, line.failure, line.decision) == (400, "bad_request", "")


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/public/%7euser", "/public/~user"),
        ("/public/a%2Db", "/public/a-b"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/caf%C3%A9", "/public/caf%C3%A9"),
        ("/public/...", "/public/..."),
        ("/public/a;v=1", "/public/a;v=1"),
        ("/public/", "/public/"),
        ("/public/x?next=//evil.test/../%2f", "/public/x?next=//evil.test/../%2f"),
        ("http://api.test/public/x", "/public/x"),
    ],
)
def test_what_has_one_reading_is_served(pair: Pair, origin: Origin, target: str, seen: str) -> None:
    with pair.caller() as caller:
        assert caller.ask("GET", target).status == 200

    assert origin.targets() == [seen]
