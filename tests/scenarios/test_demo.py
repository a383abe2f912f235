"""`make demo` keeps every promise on this machine, and whoever stops it finds nothing of it afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PROMISES = [
    "allowed",
    "not_on_the_list",
    "no_certificate",
    "foreign_ca",
    "expired",
    "wrong_server",
    "wrong_method",
    "wrong_path",
    "path_tricks",
    "spoofed_identity",
    "query",
    "websocket",
    "websocket_refused",
    "upload",
    "killed",
    "takeover",
    "flipped_byte",
    "truncated",
    "added",
    "removed",
    "broken_edit",
    "renewed",
    "audit",
    "sigterm",
]
WITHIN = 180.0  # seconds: the demo takes 10, a busy machine many times that


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Where the demo makes its directory; short, because unix sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def start(workspace: Path, *options: str, root: Path = ROOT) -> subprocess.Popen[str]:
    """The demo of the checkout `root`, running."""
    command = [sys.executable, str(root / "examples/shop/demo.py"), *options]
    environment = {**os.environ, "TMPDIR": str(workspace), "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def processes_in(directory: Path) -> list[str]:
    """The command lines of all processes that work in or below `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended, or is not ours
    return found


@dataclass(frozen=True, slots=True)
class Played:
    """One whole run: what it reported, its exit code, what it said on stderr, and what it left in its workspace."""

    rows: dict[str, dict[str, Any]]
    kept: bool
    returncode: int
    errors: str
    files_left: list[Path]
    processes_left: list[str]


@pytest.fixture(scope="module")
def played() -> Played:
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        workspace = Path(directory)
        demo = start(workspace, "--json")
        output, errors = demo.communicate(timeout=WITHIN)
        report = json.loads(output)
        rows = {row["name"]: row for row in report["rows"]}
        return Played(rows, report["kept"], demo.returncode, errors, list(workspace.iterdir()), processes_in(workspace))


def test_every_promise_is_kept(played: Played) -> None:
    assert list(played.rows) == PROMISES
    assert {name: row["seen"] for name, row in played.rows.items() if not row["kept"]} == {}
    assert (played.kept, played.returncode, played.errors) == (True, 0, "")


def test_it_leaves_nothing(played: Played) -> None:
    assert (played.files_left, played.processes_left) == ([], [])


def test_a_denial_is_explained_with_identity_file_generation_and_nearest_rule(played: Played) -> None:
    (line,) = played.rows["not_on_the_list"]["explained"]
    assert line["caller"] == "spiffe://shop.example/orders-qa"
    assert (line["policy"], line["generation"]) == ("ledger.allow.toml", "1")
    assert 'rule "orders-charge" (ledger.allow.toml:3) grants /orders' in line["nearest_rule"]


def test_a_denied_request_is_explained_with_method_and_path(played: Played) -> None:
    (line,) = played.rows["wrong_method"]["explained"]
    assert (line["caller"], line["reason"]) == ("spiffe://shop.example/web", "method")
    assert (line["method"], line["path"]) == ("DELETE", "/orders/1")
    assert 'rule "web-reads" (orders.allow.toml:11) grants the caller GET on /orders/**' in line["nearest_rule"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(workspace: Path, number: signal.Signals) -> None:
    demo = start(workspace)
    give_up = time.monotonic() + WITHIN
    while len(processes_in(workspace)) < 10 and time.monotonic() < give_up:  # four services, six sidecars
        assert demo.poll() is None
        time.sleep(0.01)
    demo.send_signal(number)
    demo.send_signal(number)  # people press it twice
    _, errors = demo.communicate(timeout=WITHIN)
    assert demo.returncode == 128 + number
    assert "Traceback" not in errors
    assert processes_in(workspace) == []
    assert list(workspace.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed process")
def test_killed_it_leaves_no_process(workspace: Path) -> None:
    demo = start(workspace)
    give_up = time.monotonic() + WITHIN
    while len(processes_in(workspace)) < 10 and time.monotonic() < give_up:
        assert demo.poll() is None
        time.sleep(0.01)
    demo.kill()
    demo.communicate(timeout=WITHIN)
    while processes_in(workspace) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert processes_in(workspace) == []


def test_kept_it_shows_the_shop_with_live_traffic_until_it_is_stopped(workspace: Path) -> None:
    demo = start(workspace, "--keep")
    assert demo.stdout is not None
    said, url = "", None
    while url is None and (line := demo.stdout.readline()):
        said += line
        url = re.search(r"http://(127\.0\.0\.1:\d+)/dashboard  shows the shop", line)
    assert url is not None, said + demo.communicate()[1]
    assert "make demo ARGS=--keep" not in said
    give_up = time.monotonic() + WITHIN
    busy: set[tuple[str, str]] = set()
    while not {("/web", "/orders"), ("/orders", "/ledger")} <= busy:
        assert time.monotonic() < give_up, busy
        with urllib.request.urlopen(f"http://{url[1]}/series?tier=1s", timeout=10) as answer:
            edges = json.load(answer)["edges"]
        busy = {(edge["source"], edge["target"]) for edge in edges if any(point[1] for point in edge["points"])}
        time.sleep(0.1)
    with urllib.request.urlopen(f"http://{url[1]}/dashboard", timeout=10) as page:
        assert b"<title>" in page.read()
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=WITHIN)
    assert processes_in(workspace) == []
    assert list(workspace.iterdir()) == []


def test_a_broken_promise_is_shown_and_its_logs_are_kept(workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    allow_list = tmp_path / "examples/shop/orders.allow.toml"
    allow_list.write_text(allow_list.read_text().replace('["GET"]', '["GET", "DELETE"]'))
    demo = start(workspace, "--json", root=tmp_path)
    report = json.loads(demo.communicate(timeout=WITHIN)[0])
    assert [row["name"] for row in report["rows"] if not row["kept"]] == ["wrong_method"]
    assert demo.returncode == 1
    assert (Path(report["directory"]) / "logs/ledger.sidecar.log").is_file()
    assert processes_in(workspace) == []
