"""When the CA has not been heard of for too long the sidecar says so, and goes on or refuses as it was told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, exchange, tls_dial, tls_exchange, underneath
from tests.scenarios.changes import unix_admin
from tests.scenarios.stage import inbound, meshproxy, outbound, poll
from tests.trusting import by_serial, say

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage

HOUR = timedelta(hours=1)


def configured(stage: Stage, tables: str, policy: str) -> Path:
    """The file of /api's sidecar with this policy for stale lists."""
    file = stage.configure("api", tables + unix_admin("api"))
    file.write_text(file.read_text().replace("[identity]\n", f'[identity]\nstale_deny_list = "{policy}"\n'))
    return file


def until_serving(sidecar: Sidecar) -> None:
    poll(lambda: sidecar.get("/ready").status == 200, "it serves")


def test_allow_goes_on_and_warns(stage: Stage) -> None:
    file = configured(stage, inbound(forward=stage.keep(Service(echo)).address), "allow")
    other = stage.identity("/batch")
    directory = stage.workspace / "identity-api"
    say(directory, stage.mesh, by_serial(stage.mesh, other), at=datetime.now(UTC) - 3 * HOUR, life=HOUR)
    api = stage.run(file)

    told = api.log.event("deny_list_stale", policy="allow")
    assert told["deny_list"] == 1
    assert told.text("late").startswith("2h")
    assert "meshproxy ca doctor" in told.text("remedy")
    assert api.metric("meshproxy_deny_list_stale") == 1
    assert api.metric("meshproxy_deny_list_age_seconds") > 3 * 3600 - 1
    said = meshproxy("status", file).stdout
    assert "deny-list   number 1" in said
    assert "stale for 2h" in said
    # What it denies is denied still, and everybody else is served.
    assert tls_exchange(api.address("api"), client_context(stage.identity("/web")), b"hello") == b"hello"
    with tls_dial(api.address("api"), client_context(other)) as denied:
        assert underneath(denied) == (b"", Ended.RESET)


@pytest.mark.long
def test_deny_believes_nobody_new_until_a_fresh_list_is_there(stage: Stage) -> None:
    file = configured(stage, inbound(forward=stage.keep(Service(echo)).address), "deny")
    directory = stage.workspace / "identity-api"
    context = client_context(stage.identity("/web"))
    api = stage.run(file)

    told = api.log.event("identity_not_ready")  # no list at all: fail closed
    assert "there is no deny-list in" in told.text("reason")
    assert 'ca = "host:port"' in told.text("remedy")
    assert api.get("/ready").status == 503
    try:
        with tls_dial(api.address("api"), context) as refused:
            assert underneath(refused)[1] is Ended.RESET
    except ConnectionResetError:
        pass

    say(directory, stage.mesh, number=1, life=timedelta(seconds=8))
    until_serving(api)
    with tls_dial(api.address("api"), context) as early:
        early.sendall(b"hello")
        assert early.recv(5) == b"hello"
        stale = api.log.event("deny_list_stale", policy="deny")
        assert stale["deny_list"] == 1
        poll(lambda: api.get("/ready").status == 503, "it refuses")
        early.sendall(b"still here")  # who is in may stay
        assert early.recv(10) == b"still here"
    said = meshproxy("status", file).stdout
    assert 'stale_deny_list = "deny"' in said

    say(directory, stage.mesh, number=2)
    until_serving(api)
    assert tls_exchange(api.address("api"), context, b"hello") == b"hello"


@pytest.mark.long
def test_deny_dials_nobody_either(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    file = stage.configure("web", outbound(endpoints=[api.address("api")]))
    file.write_text(file.read_text().replace("[identity]\n", '[identity]\nstale_deny_list = "deny"\n'))
    web = stage.run(file)
    try:
        exchange(web.address("to-api"), b"hello")
    except (ConnectionResetError, BrokenPipeError, AssertionError):
        pass
    else:
        raise AssertionError("it was let out")
    assert web.log.event("connection_refused", listener="to-api", reason="identity_not_ready")
    say(stage.workspace / "identity-web", stage.mesh)
    until_serving(web)
    assert exchange(web.address("to-api"), b"hello") == b"hello"
