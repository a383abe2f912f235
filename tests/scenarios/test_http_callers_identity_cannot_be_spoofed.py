"""The service learns who called from one field, and only the sidecar can write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.http_actors import chunked, request

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair

WHO = "spiffe://mesh.test/web"
LIE = "spiffe://mesh.test/admin"
ALLOW = '[[allow]]\nfrom = "/**"\n'

# Every name that CGI, WSGI, a JVM or a careless comparison reads as one of ours.
SPELLINGS = [
    "x-mesh-client-id",
    "X-Mesh-Client-Id",
    "X-MESH-CLIENT-ID",
    "x_mesh_client_id",
    "X_Mesh-Client_ID",
    "x.mesh.client.id",
    "x-mesh-client_id",
    "x!mesh~client|id",
    "x-forwarded-client-cert",
    "X-Forwarded-Client-Cert",
    "X_FORWARDED_CLIENT_CERT",
    "x.forwarded.client.cert",
]


def told_truly(seen: Message, who: str = WHO) -> bool:
    """Whether the request says who called once, last, and nothing of the lie under any name."""
    text = "".join(name + value for name, value in [*seen.fields, *seen.trailers])
    return seen.fields[-1] == ("x-mesh-client-id", who) and seen.value("x-mesh-client-id") == who and LIE not in text


def test_the_service_learns_who_called(pair: Pair, origin: Origin) -> None:
    with pair.mtls_caller("/batch/nightly") as caller:
        assert caller.ask("GET", "/").status == 200

    assert told_truly(origin.requests[0], "spiffe://mesh.test/batch/nightly")


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_spelling_gets_through(pair: Pair, origin: Origin, name: str) -> None:
    """On the first request and on those pipelined behind it, at either sidecar, in heads and in trailers."""
    lie = f"{name}: {LIE}"
    trailer = b"%b: %b\r\n" % (name.encode(), LIE.encode())
    trailed = request("POST", "/3", lie, "Transfer-Encoding: chunked") + chunked(b"a", trailers=trailer)

    for opened in (pair.mtls_caller, pair.caller):
        with opened() as caller:
            caller.say(request("GET", "/1", lie) + request("POST", "/2", lie, lie, body=b"a") + trailed)
            assert [caller.hear().status for _ in range(3)] == [200, 200, 200]

    assert origin.targets() == ["/1", "/2", "/3"] * 2
    assert all(map(told_truly, origin.requests))


@pytest.mark.parametrize(
    "option", ["x-mesh-client-id", "X-Mesh-Client-ID", "close, x-mesh-client-id", "x_mesh_client_id"]
)
def test_connection_cannot_take_our_field_away(pair: Pair, origin: Origin, option: str) -> None:
    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/", f"Connection: {option}").status == 400

    assert origin.requests == []


def test_what_belongs_to_one_hop_stays_there(pair: Pair, origin: Origin) -> None:
    fields = ["Connection: keep-alive, X-Secret-Hop", "X-Secret-Hop: 1", "Keep-Alive: timeout=5", "TE: gzip"]

    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/", *fields, "Proxy-Authorization: Basic eDp5", "X-Kept: 1").status == 200

    seen = {name.lower() for name, _ in origin.requests[0].fields}
    assert not seen & {"connection", "x-secret-hop", "keep-alive", "te", "proxy-authorization"}
    assert "x-kept" in seen
    assert "via" in seen
