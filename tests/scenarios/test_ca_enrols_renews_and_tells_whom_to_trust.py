"""A served CA lets in who has a token, renews who has a certificate, and tells everybody whom to trust."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys
from ca.spiffe_id import TrustDomain
from ca.svid import chain_fault, judge_leaf, read_chain
from meshproxy.runtime.telling import wall_clock
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

HOME = TrustDomain.parse("mesh.test")


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage)


def test_enrolled_and_renewed_again_and_again(ca: CaServer) -> None:
    web = ca.client()
    first = web.enrol(ca.token("/web", "web.internal"))
    chain = read_chain(first.json["chain"].encode())
    assert chain_fault(chain, ca.mesh.roots, wall_clock()) is None
    leaf = judge_leaf(chain[0].public_bytes(Encoding.DER), home=HOME, now=wall_clock())
    assert str(leaf.id) == "spiffe://mesh.test/web"
    assert b"web.internal" in chain[0].public_bytes(Encoding.DER)
    assert keys.matches(web.key, chain[0])
    assert first.json["again"] is False
    for _ in range(3):
        web.renew()
    assert [each.generation for each in ca.issued("/web")] == [1, 2, 3, 4]
    told = ca.log.event("granted", kind="enrol", identity="spiffe://mesh.test/web")
    assert told.text("peer").startswith("127.0.0.1:")
    assert ca.metric("meshproxy_ca_grants_total", kind="renew", again="no") == 3


def test_trust_is_told_to_everybody_and_what_is_loaded_is_noted(ca: CaServer) -> None:
    stranger = ca.client()
    trust = stranger.trust(loaded=1).json
    bundle = json.loads(trust["bundle"])
    assert (bundle["spiffe_sequence"], bundle["spiffe_refresh_hint"], len(bundle["keys"])) == (1, 60, 1)
    assert json.loads(trust["deny_list"])["payload"]
    assert trust["federated"] == {}
    assert stranger.ask("GET", "/v1/bundle").json == bundle
    assert b"BEGIN X509 CRL" in stranger.ask("GET", "/v1/crl").body
    member = ca.client()
    member.enrol(ca.token("/member"))
    ca.run("rotate", "prepare", "--what", "root")
    poll(lambda: json.loads(stranger.trust().json["bundle"])["spiffe_sequence"] == 2, "the prepared root is told")
    assert "spiffe://mesh.test/member" in ca.run("rotate", "status", "--json")
    member.trust(loaded=2)
    laggards = json.loads(ca.run("rotate", "status", "--json"))["laggards"]
    assert "spiffe://mesh.test/member" not in [each["id"] for each in laggards]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/enroll", 405),
        ("POST", "/v1/bundle", 405),
        ("GET", "/v1/trust?loaded=-1", 400),
        ("GET", "/v1/trust?other=1", 400),
        ("POST", "/v1/token", 404),
        ("POST", "/v1/revoke", 404),
    ],
)
def test_nothing_else_is_there(ca: CaServer, method: str, path: str, status: int) -> None:
    said = ca.client().ask(method, path)
    assert (said.status, said.why) == (status, "bad_request")
    if status == 405:  # RFC 9110 section 15.5.6
        assert said.allow == {"GET": "POST", "POST": "GET, HEAD"}[method]
