"""What others may reach tells whether it lives, whether it is ready, and numbers: no names, no reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scenarios.programs import free_port
from tests.scenarios.stage import outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_public_listen_shows_three_pages_only(stage: Stage) -> None:
    public = f"127.0.0.1:{free_port()}"
    admin = f'[admin]\nlisten = "127.0.0.1:0"\npublic_listen = "{public}"\n'
    web = stage.sidecar("web", admin + outbound(endpoints=["127.0.0.1:9"]))

    answers = {page: web.get(page, at=public).status for page in ("/live", "/ready", "/metrics", "/status", "/")}

    assert answers == {"/live": 200, "/ready": 200, "/metrics": 200, "/status": 404, "/": 404}
    assert web.get("/ready", at=public, host="any.name.at.all").status == 200
    assert web.get("/status").status == 200
