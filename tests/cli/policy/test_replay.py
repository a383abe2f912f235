"""`meshproxy policy replay`: what a candidate would have decided, counted and grouped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli
from meshproxy.policy.replaying import MOST_GROUPS

LIST = '[[allow]]\nname = "web"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/orders/**"]\n'


def line(caller: str, method: str = "", path: str = "", decision: str = "allow", **more: str) -> str:
    event = "request" if method else "connection"
    said = {"event": event, "caller": caller, "method": method, "path": path, "decision": decision, "rule": "old"}
    return json.dumps({key: value for key, value in (said | more).items() if value}) + "\n"


WEB = "spiffe://mesh.test/web"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.allow.toml").write_text(LIST)


def replay(*arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(
        cli, ["policy", "replay", "new.allow.toml", *arguments], input=said, prog_name="meshproxy"
    )


def test_what_would_change_is_counted_and_grouped() -> None:
    Path("a.log").write_text(
        "noise\n"
        + line(WEB, "GET", "/orders/1") * 3
        + line(WEB, "PUT", "/orders/1") * 2
        + line(WEB, "GET", "/orders/2", "would_deny")
        + line("spiffe://mesh.test/other", "GET", "/orders/1", "deny")
        + line("not an identity", "GET", "/")
        + json.dumps({"event": "denied", "caller": WEB, "method": "GET", "path": "/orders/2"})
    )
    said = replay("--log", "a.log")
    assert said.exit_code == 1
    assert said.stdout == (
        "denied   2 x spiffe://mesh.test/web PUT /orders/* (method; before by rule 'old')\n"
        "allowed  1 x spiffe://mesh.test/web GET /orders/* (rule 'web')\n"
    )
    assert said.stderr == "3 of 7 decisions would change\n2 calls that were let pass would be refused\n"
    rows = json.loads(replay("--log", "a.log", "--json").stdout)
    assert (rows["decided"], rows["changed"], [each["count"] for each in rows["groups"]]) == (7, 3, [2, 1])


def test_nothing_changes_is_exit_0_also_from_stdin_and_of_one_listener() -> None:
    said = line(WEB, "GET", "/orders/1", listener="api") + line(WEB, "PUT", "/orders/1", listener="other")
    assert replay("--log", "-", "--listener", "api", said=said).stderr.startswith(
        "0 of 1 decisions would change\n0 calls"
    )
    assert replay("--log", "-", said=said).exit_code == 1


def test_connections_are_decided_as_such() -> None:
    Path("new.allow.toml").write_text('[[allow]]\nfrom = "/web"\n')
    assert replay("--log", "-", said=line(WEB) + line("spiffe://mesh.test/x", decision="deny")).exit_code == 0


@pytest.mark.parametrize(
    ("said", "words"), [("", "hold no decision"), ("{}\n" * 5, "hold no decision"), (line("x"), "hold no decision")]
)
def test_a_log_without_decisions_is_exit_2(said: str, words: str) -> None:
    result = replay("--log", "-", said=said)
    assert (result.exit_code, words in result.stderr) == (2, True)


@pytest.mark.long
def test_memory_stays_flat_however_many_strangers_there_are(tmp_path: Path) -> None:
    """A log of many callers and paths, larger than the memory the command may grow by."""
    with Path("long.log").open("w") as log:
        for number in range(150_000):  # noqa: FURB122 - a list of them all would be the memory that is measured
            log.write(line(f"spiffe://mesh.test/caller-{number}", "GET", f"/orders/x{number}", filler="x" * 300))
    script = (
        "import re\n"
        "from pathlib import Path\n"
        "from click.testing import CliRunner\n"
        "from meshproxy.cli.main import cli\n"
        "said = CliRunner().invoke(cli, ['policy', 'replay', 'new.allow.toml', '--log', 'long.log'])\n"
        # Not ru_maxrss: that of a child begins with what its parent has, which here is the whole test run.
        "peak = re.search(r'VmHWM:\\s+([0-9]+) kB', Path('/proc/self/status').read_text())[1]\n"
        "print(said.stderr.splitlines()[-2], peak)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    words, kib = done.stdout.rsplit(" ", 1)
    assert words == "150,000 of 150,000 decisions would change"
    assert int(kib) < 120 * 1024, MOST_GROUPS
    assert Path("long.log").stat().st_size > 60 << 20
