"""A sidecar starts before its token is there, serves when it comes, and goes on serving when its CA is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshproxy.cli.status import in_words
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.changes import allow
from tests.scenarios.enrolled import configure, enrolled, invite, leaves_of, put
from tests.scenarios.http_actors import Origin, Pair, fingerprint, fingerprints
from tests.scenarios.stage import inbound, meshproxy, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

LIFE = 30


def test_it_waits_for_its_token(stage: Stage) -> None:
    ca = serve(stage)
    token_file = stage.workspace / "late.token"
    file = configure(stage, ca.listens, "api", inbound(forward="127.0.0.1:1"), token_file=token_file)
    api = stage.run(file)
    failed = api.log.event("enrolment_failed")
    assert failed.text("error") == f"there is no token file {token_file}"
    assert f"meshproxy ca token create /PATH --ca {ca.listens} --out {token_file}" in failed.text("remedy")
    assert api.status().state == "refusing"
    judged = meshproxy("check", file)
    assert (judged.returncode, "there is no token file" in judged.stderr) == (1, True)
    put(token_file, invite(ca, "/api"))
    api.log.event("identity_enrolled")
    api.everywhere("identity_ready")
    status = api.status()
    assert status.state == "serving"
    assert status.identity.renewal is not None
    assert status.identity.renewal.next_renewal
    assert api.metric("meshproxy_renewals_total", result="enrolled") == 1
    assert 0 < api.metric("meshproxy_renewal_planned_seconds") < 86_400
    poll(lambda: api.metric("meshproxy_bundle_sequence_known") == 1, "the number of the roots is told")
    poll(lambda: api.metric("meshproxy_bundle_sequence") == 1, "they are in use")
    words = in_words(status)
    assert "renewal      renewed" in words
    assert f"from {ca.listens}" in words


def test_check_judges_the_token(stage: Stage) -> None:
    ca = serve(stage)
    token_file = put(stage.workspace / "judged.token", invite(ca, "/api"))
    file = configure(stage, ca.listens, "judged", inbound(forward="127.0.0.1:1"), token_file=token_file)
    judged = meshproxy("check", file)
    assert (judged.returncode, "it enrols by token" in judged.stdout) == (0, True), judged.stderr
    token_file.chmod(0o644)
    judged = meshproxy("check", file)
    assert (judged.returncode, "readable by everyone" in judged.stderr) == (1, True)
    assert "chmod 600" in judged.stderr


def test_a_used_token_is_told_with_what_to_do_and_a_new_one_heals(stage: Stage) -> None:
    ca = serve(stage)
    token = invite(ca, "/api")
    ca.client().enrol(token)  # somebody was faster
    token_file = put(stage.workspace / "used.token", token)
    api = stage.run(configure(stage, ca.listens, "api", inbound(forward="127.0.0.1:1"), token_file=token_file))
    failed = api.log.event("enrolment_failed")
    assert "this token was used by 127.0.0.1" in failed.text("error")
    assert "meshproxy ca token create /PATH" in failed.text("remedy")
    put(token_file, invite(ca, "/api"))
    api.log.event("identity_enrolled")


@pytest.mark.long
def test_the_ca_is_gone_for_a_while(stage: Stage) -> None:
    ca = serve(stage, configure=leaves_of(seconds=LIFE))
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    api = enrolled(stage, ca, "api", inbound(forward=origin.address, protocol="http"))
    web = enrolled(stage, ca, "web", outbound(endpoints=[api.address("api")], protocol="http"))
    pair = Pair(stage, api, web)
    listens, serial = ca.listens, api.status().identity.serial
    ca.kill()
    failed = api.log.event("renewal_failed", within=2 * LIFE)
    assert "connection refused" in failed.text("error")
    assert "valid for another" in failed.text("effect")
    with pair.caller() as caller:
        answer = caller.ask("POST", "/orders", body=b"1")
        assert (answer.status, answer.body) == (200, fingerprint("POST", "/orders", b"1"))
    assert "failing" in in_words(api.status())
    stage.look_after(CaServer(ca.mesh, "--listen", listens))
    for each in (api, web):
        each.log.event("identity_renewed", within=LIFE)
        poll(lambda each=each: each.status().state == "serving", "it serves")  # type: ignore[misc]
    assert api.status().identity.serial != serial or api.log.seen("identity_loaded")
