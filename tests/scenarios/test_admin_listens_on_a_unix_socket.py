"""The admin API may be a unix socket: nobody but its owner and group can open it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from tests.scenarios.stage import meshproxy, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


def test_admin_listens_on_a_unix_socket(stage: Stage) -> None:
    path = stage.workspace / "admin.sock"
    web = stage.sidecar("web", '[admin]\nlisten = "unix:admin.sock"\n' + outbound(endpoints=["127.0.0.1:9"]))

    assert web.admin == f"unix:{path}"
    assert web.status().state == "serving"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    said = meshproxy("status", web.file)
    assert said.returncode == 0
    assert "spiffe://mesh.test/web" in said.stdout
