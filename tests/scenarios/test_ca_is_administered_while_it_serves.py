"""The commands work on the directory of a CA that serves, and it follows within seconds."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from ca.deny_list import read as read_deny_list
from ca.occupancy import LOCK
from ca.spiffe_id import TrustDomain
from ca.svid import read_chain
from meshproxy.runtime.telling import wall_clock
from tests.factory import make_mesh_ca
from tests.scenarios.actors import dial
from tests.scenarios.authority import CaServer, serve, unhurried
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    from tests.scenarios.authority import Client
    from tests.scenarios.stage import Stage

HOME = TrustDomain.parse("mesh.test")


def denied(ca: CaServer, client: Client) -> int:
    """How many entries the deny-list has that is given out."""
    document = client.trust().json["deny_list"].encode()
    roots = read_chain((ca.directory / "trust/bundle.pem").read_bytes())
    return len(read_deny_list(document, home=HOME.name, roots=roots, now=wall_clock()).content.entries)


@pytest.mark.long
def test_issue_revoke_rotate_verify_and_back_up(stage: Stage) -> None:
    ca = serve(stage)
    web = ca.client()
    serial = f"{web.enrol(ca.token('/web')).leaf.serial_number:x}"
    ca.run("issue", "/files", "--out", stage.workspace / "files")
    assert denied(ca, web) == 0
    ca.run("revoke", serial)
    poll(lambda: denied(ca, web) == 1, "the revocation is told", within=5)
    before = web.leaf_issuer
    ca.run("rotate", "prepare", "--what", "intermediate")
    ca.run("rotate", "activate", "--what", "intermediate")
    other = ca.client()
    assert other.enrol(ca.token("/other")).status == 200
    assert other.leaf_issuer != before
    poll(lambda: len(ca.log.seen("own_leaf_issued")) == 2, "its own leaf is of the new one", within=5)
    assert denied(ca, web) == 1
    poll(lambda: "sound" in ca.run("log", "verify"), "the head is signed")
    ca.run("backup", "--out", stage.workspace / "ca.tar", "--unsealed")
    assert ca.status_json["failing"] == []


@pytest.mark.long
def test_a_root_is_rotated_while_everybody_reports(stage: Stage) -> None:
    ca = serve(stage)
    web = ca.client()
    web.enrol(ca.token("/web"))
    ca.run("rotate", "prepare", "--what", "root")
    refused = meshproxy("ca", "rotate", "activate", "--what", "root", "--dir", ca.directory)
    assert refused.returncode != 0
    poll(lambda: len(json.loads(web.trust().json["bundle"])["keys"]) == 2, "both roots are told", within=5)
    web.trust(loaded=2)
    ca.run("rotate", "activate", "--what", "root")
    poll(lambda: len(ca.log.seen("own_leaf_issued")) == 2, "its own leaf is below the new root", within=5)
    web.roots = (ca.directory / "trust/bundle.pem").read_text()
    renewed = web.renew()
    roots = json.loads(renewed.json["trust"]["bundle"])
    assert (renewed.status, len(roots["keys"]), roots["spiffe_sequence"]) == (200, 2, 2)
    ca.run("rotate", "retire", "--what", "root", "--force")
    poll(lambda: len(json.loads(web.trust().json["bundle"])["keys"]) == 1, "the old root is gone", within=5)
    assert ca.get("/ready").status == 200


def test_a_second_server_is_one_clear_sentence(stage: Stage) -> None:
    ca = serve(stage)
    second = meshproxy("ca", "serve", "--dir", ca.directory, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert second.returncode == 1
    assert second.stderr == (
        f"meshproxy: another process {ca.process.pid} serves the CA in {ca.directory}; stop that one first; nothing "
        "was started\n"
    )
    ca.kill()
    assert (ca.directory / LOCK).exists()
    assert stage.look_after(CaServer(ca.mesh)).get("/ready").status == 200  # the lock died with its holder


def test_a_faulty_ca_toml_changes_nothing_and_a_sound_one_does(stage: Stage) -> None:
    ca = serve(stage)
    web, file = ca.client(), ca.directory / "ca.toml"
    web.enrol(ca.token("/web"))
    sound = file.read_text()
    file.write_text(sound + '\n[[issue]]\npaths = ["/web"]\ndeny = "perhaps"\n')
    ca.signal(signal.SIGHUP)
    told = ca.log.event("reload_failed")
    assert "ca.toml cannot be used" in told.text("error")
    assert web.renew().status == 200
    file.write_text(sound.replace("mesh.test", "other.test"))
    ca.signal(signal.SIGHUP)
    assert "fixed for its life" in ca.log.event("reload_failed", error=_other(ca)).text("error")
    file.write_text(sound + '\n[[issue]]\npaths = ["/web"]\ndeny = true\n')
    ca.signal(signal.SIGHUP)
    ca.log.event("reloaded")
    said = web.renew()
    assert (said.status, said.why) == (403, "not_allowed")


def _other(ca: CaServer) -> str:
    poll(lambda: len(ca.log.seen("reload_failed")) == 2, "the second failure is told")
    return ca.log.seen("reload_failed")[1].text("error")


@pytest.mark.long
def test_sigterm_serves_who_was_accepted_and_nobody_else(stage: Stage) -> None:
    ca = serve(stage)
    with dial(ca.listens) as waiting:
        poll(lambda: ca.status_json["open"] == 1, "it is accepted")
        ca.signal(signal.SIGTERM)
        ca.log.event("draining")
        tls = ca.client().context().wrap_socket(waiting)
        tls.sendall(b"GET /v1/bundle HTTP/1.1\r\nHost: ca\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        tls.close()
    assert ca.exit_code() == 0
    assert "not covered" not in ca.run("log", "verify")  # the head was signed last of all


@pytest.mark.long
def test_who_comes_too_often_is_told_when_to_come_back(stage: Stage) -> None:
    mesh = make_mesh_ca(stage.workspace / "own")
    unhurried(mesh.directory, "enrol_per_address = 0.2\nenrol_burst_per_address = 3\n")
    ca = stage.look_after(CaServer(mesh))
    tokens = [ca.token(f"/web-{number}") for number in range(4)]
    said = [ca.client().enrol(token) for token in tokens]
    assert [each.status for each in said] == [200, 200, 200, 429]
    assert said[3].why == "too_many_requests"
    assert 0 < said[3].json["retry_after"] <= int(said[3].retry_after or 0) <= 5
    ca.log.event("rate_limited", kind="enrol", by="address")
    assert ca.metric("meshproxy_ca_rate_limited_total", kind="enrol", by="address") == 1


def test_a_token_says_where_the_server_is(stage: Stage) -> None:
    ca = serve(stage, "--name", "ca.internal")
    port = ca.listens.rpartition(":")[2]
    assert ca.token_by_command("/web").addresses == (f"ca.internal:{port}", f"127.0.0.1:{port}")
    ca.kill()
    assert ca.token_by_command("/web").addresses == ()
