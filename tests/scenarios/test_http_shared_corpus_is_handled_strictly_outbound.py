"""The shared corpus from a local application towards the mesh, and its path list with everything but /admin granted.

`test_http_shared_corpus_is_handled_strictly` has the inbound side; the figures must be the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is not here"),
]
WITHIN = 600.0  # seconds: it takes 75 on a machine that does nothing else
SOON = 'head_timeout = "2s"\nidle_timeout = "3s"'  # else the runner waits for each half request

# The contract refuses empty and dot segments before any rule; RFC 9112 alone would let them pass.
REFUSED_BY_CONTRACT = {
    "gunicorn-valid-100",
    "go-scheme-relative",
    "nginx-uri-foo_bar_args-783",
    "nginx-uri-foo_bar_args-785",
}


def judged(stage: Stage, *options: str | Path) -> list[dict[str, object]]:
    """The rows of the runner, whose figures are printed; it must find nothing unsafe."""
    report = stage.workspace / "rows.json"
    command = [sys.executable, CORPUS / "http1_run.py", "--json", report, *options]
    run = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=WITHIN, check=False)
    print(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    rows: list[dict[str, object]] = json.loads(report.read_text())["rows"]
    return rows


def test_requests_on_their_way_out(stage: Stage) -> None:
    upstream, far = f"127.0.0.1:{free_port()}", stage.identity("/api")
    web = stage.sidecar("web", outbound(endpoints=[upstream], protocol="http", more=SOON))

    rows = judged(
        stage, "--proxy", web.address("to-api"), "--upstream", upstream,
        "--upstream-cert", far.chain, "--upstream-key", far.key, "--upstream-ca", far.bundle,
    )  # fmt: skip

    assert len(rows) == 931
    misses = {str(row["id"]): row["verdict"] for row in rows if row["verdict"] != "ok"}
    assert misses == dict.fromkeys(REFUSED_BY_CONTRACT, "OVERSTRICT")
    assert not any(row["five_xx"] for row in rows)


def test_path_tricks_towards_what_no_rule_grants(stage: Stage) -> None:
    """There are no deny rules: what the policy `deny:/admin` denies is what this list leaves out."""
    upstream, web = f"127.0.0.1:{free_port()}", stage.identity("/web")
    granted = ["/", "/admi", "/adminx", "/administrator/**", "/app/**", "/public/**", "/x/**", "/alive"]
    stage.write("web.allow.toml", f'[[allow]]\nfrom = "/web"\npaths = {json.dumps(granted)}\n')
    api = stage.sidecar("api", inbound(forward=upstream, protocol="http", more=SOON))

    rows = judged(
        stage, "--proxy", api.address("api"), "--upstream", upstream,
        "--cert", web.chain, "--key", web.key, "--ca", web.bundle,
        "--paths", CORPUS / "path_bypass.json", "--policy", "deny:/admin",
    )  # fmt: skip

    assert Counter(row["verdict"] for row in rows) == {"ok": 96}
