"""One directory of allow-lists for all: each sidecar takes its own, and a reload that breaks a promise is refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.changes import unix_admin
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

ONE = '[[allow]]\nname = "{name}"\nfrom = "/{name}"\nowner = "us"\n'


def test_it_takes_its_list_when_the_identity_comes_and_keeps_its_promises(stage: Stage) -> None:
    policies = stage.workspace / "policies"
    policies.mkdir()
    (policies / "api.allow.toml").write_text(ONE.format(name="web"))
    (policies / "invariants.toml").write_text('[[invariant]]\nname = "owned"\nrequire = ["owner"]\n')
    service = stage.keep(Service(echo))
    file = stage.configure("api", inbound(forward=service.address, policy="dir:policies") + unix_admin("api"))
    home = stage.workspace / "identity-api"
    away = home.with_name("away")
    home.rename(away)
    api = stage.run(file)
    web, batch = (client_context(stage.identity(path)) for path in ("/web", "/batch"))
    assert api.status().state == "refusing"

    shutil.copytree(away, home, symlinks=True)
    poll(lambda: rules(api) == 1, "its own list is in force")
    api.everywhere("identity_ready")
    assert tls_exchange(api.address("api"), web, b"hello") == b"hello"

    (policies / "api.allow.toml").write_text(
        ONE.format(name="web") + '[[allow]]\nname = "x"\nfrom = "/batch"\nreason = "x"\n'
    )
    refused = api.log.event("reload_failed")
    assert "rule 'x', which breaks 'owned': it says no owner" in refused.text("error")
    assert rules(api) == 1
    (policies / "invariants.toml").write_text('[[invariant]]\nname = "few"\nservices = "/api"\nonly = ["/web"]\n')
    (policies / "api.allow.toml").write_text(ONE.format(name="web") + ONE.format(name="batch"))
    shown = "rule 'batch', which breaks 'few': it grants spiffe://mesh.test/batch"
    poll(lambda: any(shown in line.text("error") for line in api.log.seen("reload_failed")), "it is refused")
    assert rules(api) == 1
    (policies / "invariants.toml").write_text('[[invariant]]\nname = "owned"\nrequire = ["owner"]\n')
    poll(lambda: rules(api) == 2, "the list that keeps the promise is in force")
    assert tls_exchange(api.address("api"), batch, b"hello") == b"hello"


def rules(api: Sidecar) -> int:
    found = api.status().listeners[0].policy
    return 0 if found is None else found.rules
