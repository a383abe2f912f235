"""A revocation at the CA reaches enrolled sidecars by their own polling: the revoked one is out, and not renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshproxy.cli.status import in_words
from tests.scenarios.authority import serve
from tests.scenarios.changes import allow
from tests.scenarios.enrolled import enrolled, invite, leaves_of, put
from tests.scenarios.http_actors import Origin, Pair, fingerprints
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

LIFE = 40
POLL = 10


@pytest.mark.long
def test_revoked_and_let_in_again(stage: Stage) -> None:
    ca = serve(stage, configure=leaves_of(seconds=LIFE, hint=POLL))
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    api = enrolled(stage, ca, "api", inbound(forward=origin.address, protocol="http"))
    web = enrolled(stage, ca, "web", outbound(endpoints=[api.address("api")], protocol="http"))
    pair = Pair(stage, api, web)

    def answered() -> int:
        with pair.caller() as caller:
            return caller.ask("POST", "/orders", body=b"1").status

    assert answered() == 200
    ca.run("revoke", "--id", "/web")
    poll(lambda: answered() != 200, "the revoked one is out", within=3 * POLL)
    assert api.status().state == "serving"
    refused = web.log.event("renewal_failed", within=LIFE)
    assert "was revoked" in refused.text("error")
    assert "meshproxy ca token create /web" in refused.text("remedy")
    assert "was revoked" in in_words(web.status())
    put(stage.workspace / "web.token", invite(ca, "/web"))  # a person decides that it may go on
    web.log.turn_page()
    web.log.event("identity_renewed", within=LIFE)
    poll(lambda: answered() == 200, "it is let in again", within=3 * POLL)
