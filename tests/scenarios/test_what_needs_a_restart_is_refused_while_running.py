"""Who a sidecar is, where it is asked, and its workers cannot change under it: such a file is refused, naming that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.changes import allow, reload, reload_changes, unix_admin
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

TABLES = inbound(forward="127.0.0.1:9")


@pytest.mark.parametrize(
    ("what", "before", "after"),
    [
        ("identity", 'dir = "', 'unsafe_key_mode = true\ndir = "'),
        ("admin", "api.admin.sock", "other.admin.sock"),
        ("admin", "[admin]", '[admin]\npublic_listen = "127.0.0.1:0"'),
    ],
    ids=["identity", "admin", "public-admin"],
)
def test_it_is_refused_as_a_whole_with_its_remedy(stage: Stage, what: str, before: str, after: str) -> None:
    api = stage.sidecar("api", unix_admin("api") + TABLES)
    good = api.file.read_text()
    api.file.write_text(good.replace(before, after))
    allow(stage, "/batch")  # of the same transaction: not taken up either

    answer = reload(api)

    assert answer.status == 422
    assert f"another [{what}]" in answer.json.text("error")
    failed = api.log.event("reload_failed")
    assert "restart the sidecar to change it" in failed.text("remedy")
    assert api.status().configuration.generation == 1

    api.file.write_text(good)
    reload_changes(api)
    assert api.status().configuration.generation == 2
