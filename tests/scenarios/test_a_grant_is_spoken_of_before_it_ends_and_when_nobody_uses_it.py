"""Who answers for an allow-list hears of grants that end soon, and of rules that let nobody in, from a real sidecar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.stage import inbound, meshproxy, poll

if TYPE_CHECKING:
    from meshproxy.admin.status import PolicyStatus
    from tests.scenarios.stage import Sidecar, Stage

DAY = 86_400


@pytest.mark.long
def test_a_grant_is_spoken_of_before_it_ends_and_when_nobody_uses_it(stage: Stage) -> None:
    ends = datetime.now(UTC) + timedelta(days=3)
    stage.write(
        "web.allow.toml",
        '[[allow]]\nname = "used"\nfrom = "/web"\n'
        f'[[allow]]\nname = "audit"\nowner = "team-pay"\nfrom = "/auditor"\nexpires = {ends.isoformat()}\n'
        '[[allow]]\nname = "spare"\nfrom = "/batch"\n[[allow]]\nname = "over"\nfrom = "/x"\nexpires = 2020-01-01\n',
    )
    file = stage.configure("api", inbound(forward=stage.keep(Service(echo)).address))
    api = stage.run(file)
    poll(lambda: unused(api) == ("used", "audit", "spare"), "nobody let in yet")
    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"

    poll(lambda: unused(api) == ("audit", "spare"), "one rule used")
    (expiring,) = policy_of(api).expiring
    assert (expiring.rule, policy_of(api).expired_rules) == ("audit", ("over",))
    assert 3 * DAY - 600 < expiring.seconds_left < 3 * DAY
    told = api.log.event("grant_expires", rule="audit")
    assert (told.text("owner"), told.text("left")) == ("team-pay", "2d 23h")
    assert told.text("policy").endswith("web.allow.toml:4")
    assert 3 * DAY - 600 < api.metric("meshproxy_grant_expiry_seconds", listener="api", rule="audit") < 3 * DAY
    assert api.metric("meshproxy_grant_expiry_seconds", listener="api", rule="over") < -DAY

    judged = meshproxy("check", file)
    assert "rule audit expires in 2d 23h" in judged.stdout + judged.stderr

    stage.write(
        "web.allow.toml", '[[allow]]\nname = "used"\nfrom = "/web"\n[[allow]]\nname = "spare"\nfrom = "/batch"\n'
    )
    poll(lambda: unused(api) == ("spare",), "the list taken up, and nothing forgotten")
    assert not [name for name, _, _ in api.samples() if name == "meshproxy_grant_expiry_seconds"]


def policy_of(sidecar: Sidecar) -> PolicyStatus:
    (listener,) = sidecar.status().listeners
    assert listener.policy is not None
    return listener.policy


def unused(sidecar: Sidecar) -> tuple[str, ...]:
    return tuple(rule for each in policy_of(sidecar).unused for rule in each.rules)
