"""A token lets in one key, again if the answer was lost; whoever else shows it is refused, and somebody is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ca import keys
from tests.scenarios.authority import CaServer, csr, serve, text

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage)


def test_the_same_key_gets_the_same_certificate_and_another_key_none(ca: CaServer) -> None:
    token = ca.token("/web")
    web, thief = ca.client(), ca.client()
    first = web.enrol(token)
    again = web.enrol(token)
    assert (again.leaf, again.json["again"]) == (first.leaf, True)
    refused = thief.enrol(token)
    assert (refused.status, refused.why) == (409, "token_used")
    assert "127.0.0.1" in refused.json["title"]
    alert = ca.log.event("alert", why="token_used", token=token.id.hex())
    assert (alert["level"], alert["kind"]) == ("error", "enrol")
    assert ca.metric("meshproxy_ca_alerts_total", kind="enrol", why="token_used") == 1
    assert len(ca.issued("/web")) == 1


def test_who_replays_a_captured_request_gets_a_certificate_whose_key_he_has_not(ca: CaServer) -> None:
    token, web = ca.token("/replayed"), ca.client()
    captured = {"token": token.id.hex(), "secret": text(token.secret), "csr": text(csr(web.key))}
    first = web.ask("POST", "/v1/enroll", captured)
    replayed = ca.client().ask("POST", "/v1/enroll", captured)
    assert replayed.leaf == first.leaf
    assert keys.matches(web.key, replayed.leaf)
    assert len(ca.issued("/replayed")) == 1


def test_ten_guesses_lock_it_for_its_owner_too(ca: CaServer) -> None:
    token = ca.token("/guessed")
    for _ in range(10):
        said = ca.client().enrol(token, secret=bytes(32))
        assert (said.status, said.why) == (403, "wrong_secret")
    ca.log.event("alert", why="wrong_secret", token=token.id.hex())
    said = ca.client().enrol(token)
    assert (said.status, said.why) == (403, "token_locked")
    every = json.loads(ca.run("token", "list", "--all", "--json"))
    (listed,) = [each for each in every if each["token"] == token.id.hex()]
    assert (listed["state"], listed["used"]) == ("locked", 0)
    assert ca.issued("/guessed") == []


def test_what_is_no_token_or_no_request_burns_none(ca: CaServer) -> None:
    token, web = ca.token("/patient"), ca.client()
    sound = {"token": token.id.hex(), "secret": text(token.secret), "csr": text(csr(web.key))}
    for body, status, why in (
        ({**sound, "token": "f" * 32}, 403, "wrong_secret"),
        ({**sound, "secret": text(token.secret[:16])}, 403, "wrong_secret"),  # cut short
        ({**sound, "token": token.id.hex()[:20]}, 400, "bad_request"),
        ({**sound, "token": 7}, 400, "bad_request"),
        ({**sound, "secret": "not base64!"}, 400, "bad_request"),
        ({**sound, "extra": 1}, 400, "bad_request"),
        ({**sound, "csr": text(b"nonsense")}, 422, "bad_csr"),
        ({**sound, "csr": text(csr(web.key)[:-9])}, 422, "bad_csr"),
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"[" * 50_000, 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        (b"x" * 100_000, 413, "bad_request"),  # not so long that the answer overtakes what is still being sent
    ):
        said = web.ask("POST", "/v1/enroll", body)
        assert (said.status, said.why) == (status, why), body
        assert token.secret.hex() not in said.body.decode()
    assert web.enrol(token).status == 200


def test_no_secret_is_ever_logged(ca: CaServer) -> None:
    token = ca.token("/quiet")
    assert ca.client().enrol(token).status == 200
    ca.log.event("granted", identity="spiffe://mesh.test/quiet")
    for written in (token.secret.hex(), text(token.secret), "PRIVATE KEY", "BEGIN CERTIFICATE"):
        assert written not in str(ca.log)


def test_a_revoked_token_is_over(ca: CaServer) -> None:
    token = ca.token("/over")
    ca.run("token", "revoke", token.id.hex())
    said = ca.client().enrol(token)
    assert (said.status, said.why) == (403, "token_revoked")
