"""Who does not want to wait for the watch sends SIGHUP, or POSTs to /reload on the admin unix socket. Nowhere else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.changes import allow, reload, unix_admin, until_first_look, until_generation
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

TABLES = inbound(forward="127.0.0.1:9", protocol="http")


def test_sighup(stage: Stage) -> None:
    api = stage.sidecar("api", TABLES)
    allow(stage, "/batch")
    api.signal(signal.SIGHUP)
    until_generation(api, 2)
    reloaded = api.log.event("reloaded")
    assert (reloaded["generation"], reloaded["hash"]) == (2, api.status().configuration.hash)
    assert api.metric("meshproxy_configuration_generation") == 2


def test_post_tells_what_came_of_it(stage: Stage) -> None:
    api = stage.sidecar("api", unix_admin("api") + TABLES)
    until_first_look(api)

    answer = reload(api)
    assert (answer.status, answer.json) == (200, {"result": "unchanged", "generation": "1"})

    allow(stage, "/batch", more='methods = ["GET"]')
    answer = reload(api)
    assert (answer.status, answer.json) == (200, {"result": "loaded", "generation": "2"})

    allow(stage, "/batch", more="metods = []")
    answer = reload(api)
    assert (answer.status, answer.json["result"], answer.json["generation"]) == (422, "failed", "2")
    assert "web.allow.toml:4" in answer.json.text("error")

    for result in ("loaded", "failed"):
        assert api.metric("meshproxy_reloads_total", result=result) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_with_curl(stage: Stage) -> None:
    api = stage.sidecar("api", unix_admin("api") + TABLES)
    until_first_look(api)
    allow(stage, "/batch")
    path = api.admin.removeprefix("unix:")
    curl = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--unix-socket",
        path,
        "-X",
        "POST",
        "http://localhost/reload",
    ]
    said = subprocess.run(curl, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == {"result": "loaded", "generation": "2"}


def test_post_is_refused_where_any_program_of_this_machine_could_ask(stage: Stage) -> None:
    api = stage.sidecar("api", TABLES)
    answer = reload(api)
    assert answer.status == 405
    assert b"unix socket" in answer.body
    assert api.log.seen("reloaded") == []
    assert api.metric("meshproxy_reloads_total", result="unchanged") == 0


def test_other_pages_take_no_post_on_the_unix_socket_either(stage: Stage) -> None:
    api = stage.sidecar("api", unix_admin("api") + TABLES)
    assert api.get("/status", method="POST").status == 405
    assert api.get("/reload").status == 405
