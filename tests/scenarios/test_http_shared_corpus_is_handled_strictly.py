"""The shared corpus, where it lies beside the checkout, over mTLS through a real sidecar: its runner is the judge.

The runner sends 931 raw requests and 110 path tricks, and looks at what reaches an upstream of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is not here"),
]
WITHIN = 600.0  # seconds: it takes 75 on a machine that does nothing else
SOON = 'head_timeout = "2s"\nidle_timeout = "3s"'  # else the runner waits for each half request

# Legal, ordinary to the corpus, and refused by contract: an empty segment has two readings, and so has a dot segment.
REFUSED_BY_CONTRACT = {
    "gunicorn-valid-100": "///keeping_slashes",
    "go-scheme-relative": "//user@host/is/actually/a/path/",
    "nginx-uri-foo_bar_args-783": "/foo/bar/.?args",
    "nginx-uri-foo_bar_args-785": "/foo/bar/..?args",
}


def judged(stage: Stage, *options: str, allow: str) -> str:
    """What the runner prints about a sidecar with this allow-list; it must find nothing unsafe."""
    upstream = f"127.0.0.1:{free_port()}"
    stage.write("web.allow.toml", allow)
    api = stage.sidecar("api", inbound(forward=upstream, protocol="http", more=SOON))
    web = stage.identity("/web")
    command = [sys.executable, str(CORPUS / "http1_run.py"), "--proxy", api.address("api"), "--upstream", upstream]
    command += ["--cert", str(web.chain), "--key", str(web.key), "--ca", str(web.bundle)]
    run = subprocess.run([*command, *options], capture_output=True, text=True, timeout=WITHIN, check=False)
    print(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert "internal_error" not in str(api.log)
    return run.stdout


def test_requests(stage: Stage) -> None:
    report = stage.workspace / "rows.json"

    judged(stage, "--identity-header", "x-mesh-client-id", "--json", str(report), allow='[[allow]]\nfrom = "/web"\n')

    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == 931
    misses = {row["id"]: row["verdict"] for row in rows if row["verdict"] != "ok"}
    assert misses == dict.fromkeys(REFUSED_BY_CONTRACT, "OVERSTRICT")
    assert not any(row["five_xx"] for row in rows)


def test_path_tricks(stage: Stage) -> None:
    allow = '[[allow]]\nfrom = "/web"\npaths = ["/public/**", "/alive"]\n'

    told = judged(stage, "--paths", str(CORPUS / "path_bypass.json"), "--policy", "allow:/public", allow=allow)

    assert re.search(r"110 targets; ok 108, BYPASS 0 .*, RISK 2, OVERBLOCK 0; alive True", told)
    assert told.count("double-decode") == 2  # harmless unless a service decodes twice
