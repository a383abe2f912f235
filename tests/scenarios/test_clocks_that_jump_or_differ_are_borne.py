"""A clock five minutes off is borne or told, and heals; a machine that slept three days renews itself when it wakes.

Needs libfaketime (Debian: faketime), which moves the wall clock of single processes while they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.clocks import IN_REACH, LIBRARY, Clock
from tests.scenarios.enrolled import configure, enrolled, invite, put
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Stage

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def allowed(stage: Stage) -> str:
    stage.write("web.allow.toml", '[[allow]]\nfrom = "/web"\n')
    return IN_REACH + inbound(forward=stage.keep(Service(echo)).address)


def test_a_clock_that_is_ahead_is_borne(stage: Stage, clock: Clock) -> None:
    ca = serve(stage)
    clock.set("+5m")
    with clock.beside():
        api = enrolled(stage, ca, "api", allowed(stage))
    web = client_context(ca.mesh.issue("/web"))
    assert tls_exchange(api.address("api"), web, b"hello") == b"hello"


def test_a_clock_that_is_behind_is_told_and_heals_when_it_is_set(stage: Stage, clock: Clock) -> None:
    ca = serve(stage)
    clock.set("-5m")
    token_file = put(stage.workspace / "api.token", invite(ca, "/api"))
    with clock.beside():
        api = stage.run(configure(stage, ca.listens, "api", allowed(stage), token_file=token_file))
    assert "clock" in api.log.event("enrolment_failed").text("error")
    clock.set("+0")
    api.log.event("identity_enrolled", within=60)
    api.everywhere("identity_ready", within=60)


@pytest.mark.parametrize("grace", [0, 604_800], ids=["without grace", "with grace"])
def test_after_three_days_of_sleep(stage: Stage, clock: Clock, grace: int) -> None:
    def with_rule(directory: Path) -> None:
        with (directory / "ca.toml").open("a") as file:
            file.write(f'\n[[issue]]\npaths = ["/**"]\nrenew_grace_seconds = {grace}\n')

    with clock.beside():
        ca: CaServer = serve(stage, configure=with_rule)
        api = enrolled(stage, ca, "api", allowed(stage))
        before = api.status().identity.serial
    clock.set("+3d")
    if not grace:
        told = api.log.event("renewal_failed", within=90)
        assert "expired" in told.text("error")
        assert "meshproxy ca token create /api" in told.text("remedy")
        assert api.status().state == "refusing"
        return
    api.log.event("identity_renewed", within=90)
    poll(lambda: api.status().identity.serial != before, "the new certificate is in use", within=60)
    assert api.status().state == "serving"
