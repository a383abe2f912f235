"""Whatever an allow-list becomes: while it is not sound the last good one stays in force, loudly; and it heals."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.changes import allow_list
from tests.scenarios.http_actors import Origin, mesh_pair
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.scenarios.http_actors import Pair
    from tests.scenarios.stage import Stage

GOOD = allow_list("/web", more='methods = "GET"\npaths = "/orders"')
BETTER = allow_list("/web", more='methods = "GET"\npaths = ["/orders", "/refunds"]')


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


def another(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" + os.urandom(4096))


def circle(path: Path) -> None:
    path.symlink_to(path)


def for_all_to_write(path: Path) -> None:
    path.chmod(0o666)


def for_nobody_to_read(path: Path) -> None:
    path.chmod(0)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "syntax": (text(GOOD + "paths = [\n"), "web.allow.toml"),
    "unknown-key": (text(GOOD + 'method = ["GET"]\n'), "web.allow.toml:6"),
    "bad-identity": (text(allow_list("/web", "/b?d")), "web.allow.toml:6"),
    "empty": (text(""), "web.allow.toml"),
    "only-a-comment": (text("# nothing here yet\n"), "web.allow.toml"),
    "10-mib": (text(GOOD + 'reason = "' + "x" * (10 << 20) + '"\nnonsense = 1\n'), "web.allow.toml:7"),
    "17-mib": (text(GOOD + "#" + "x" * (17 << 20)), "web.allow.toml"),
    "deeply-nested": (text("allow = " + "[" * 100_000), "web.allow.toml"),
    "deeply-nested-and-closed": (text("allow = " + "[" * 50_000 + "]" * 50_000), "web.allow.toml"),
    "binary": (binary, "web.allow.toml"),
    "deleted": (lambda path: path.unlink(), "no file"),
    "directory": (another(lambda path: path.mkdir()), "a directory"),
    "fifo": (another(os.mkfifo), "a FIFO"),
    "link-to-itself": (another(circle), "links that lead in a circle"),
    "for-all-to-write": (for_all_to_write, "web.allow.toml"),
    "for-nobody-to-read": (for_nobody_to_read, "a file this user may not read"),
}


SEEN_BY_THE_WATCH = {"syntax", "deleted"}  # the others are hurried by SIGHUP


@pytest.fixture(scope="module")
def pair(shared_stage: Stage) -> Pair:
    shared_stage.write("web.allow.toml", GOOD)
    return mesh_pair(shared_stage, shared_stage.keep(Origin()))


def put_right(path: Path, content: str) -> None:
    """Remove whatever stands there and write the file anew."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_text(content)
    path.chmod(0o644)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_changes_nothing_is_told_and_heals(shared_stage: Stage, pair: Pair, name: str) -> None:
    if name == "for-nobody-to-read" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    do_harm, told = BROKEN[name]
    api, path = pair.api, shared_stage.workspace / "web.allow.toml"
    before = api.status().configuration
    failures = api.metric("meshproxy_reloads_total", result="failed")
    api.log.turn_page()

    def look() -> None:
        if name not in SEEN_BY_THE_WATCH:
            api.signal(signal.SIGHUP)

    do_harm(path)
    look()
    failed = api.log.event("reload_failed")

    assert told in failed.text("error")
    assert failed["kept_generation"] == before.generation
    assert failed.text("remedy") != ""
    after = api.status().configuration
    assert (after.generation, after.hash, after.last_error) == (before.generation, before.hash, failed["error"])
    assert api.get("/ready").status == 200
    assert api.metric("meshproxy_reload_failing") == 1
    assert api.metric("meshproxy_reloads_total", result="failed") == failures + 1
    assert asked(pair) == (200, 403)

    put_right(path, GOOD)
    look()
    poll(lambda: api.status().configuration.last_error == "", "it heals")
    assert api.metric("meshproxy_reload_failing") == 0
    assert api.status().configuration.generation == before.generation  # what is in force was never another
    assert asked(pair) == (200, 403)
    assert len(api.log.seen("reload_failed")) == 1  # said once, not at every look


def test_it_heals_to_something_new(shared_stage: Stage, pair: Pair) -> None:
    path = shared_stage.workspace / "web.allow.toml"
    generation = pair.api.status().configuration.generation
    pair.api.log.turn_page()
    path.write_text("nonsense")
    pair.api.log.event("reload_failed")

    put_right(path, BETTER)
    assert pair.api.log.event("reloaded")["generation"] == generation + 1
    assert asked(pair) == (200, 200)
    put_right(path, GOOD)
    assert pair.api.log.event("reloaded", generation=generation + 2)


def test_the_status_command_tells_file_and_line(shared_stage: Stage, pair: Pair) -> None:
    path = shared_stage.workspace / "web.allow.toml"
    pair.api.log.turn_page()
    path.write_text(GOOD + 'method = ["GET"]\n')
    pair.api.log.event("reload_failed")
    file = shared_stage.write("asked.toml", pair.api.file.read_text().replace("127.0.0.1:0", pair.api.admin, 1))

    said = meshproxy("status", file)

    assert said.returncode == 0  # it serves
    assert "last reload failed" in said.stdout
    assert "web.allow.toml:6" in said.stdout
    as_json = json.loads(meshproxy("status", "--json", file).stdout)
    assert "web.allow.toml:6" in as_json["configuration"]["last_error"]
    put_right(path, GOOD)
    poll(lambda: pair.api.status().configuration.last_error == "", "it heals")
    assert "last reload failed" not in meshproxy("status", file).stdout


def asked(pair: Pair) -> tuple[int, int]:
    """The answers to what the good allow-list grants, and to what only the better one does."""
    with pair.caller() as caller:
        return caller.ask("GET", "/orders").status, caller.ask("GET", "/refunds").status
