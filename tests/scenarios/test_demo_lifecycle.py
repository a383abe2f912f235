"""`make demo-lifecycle`: renewals, a root rotation and a revocation under load; nothing fails that should not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.scenarios.test_demo import processes_in

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
WITHIN = 300.0


def test_every_promise_of_the_lifecycle_is_kept_and_nothing_is_left() -> None:
    with tempfile.TemporaryDirectory(prefix="life-") as directory:
        played = subprocess.run(
            [sys.executable, str(ROOT / "examples/lifecycle/demo.py"), "--json"],
            env={**os.environ, "TMPDIR": directory, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        report = json.loads(played.stdout)
        for at, who, words in report["timeline"]:
            print(f"{at:6.1f} {who:<5} {words}")
        assert {name: each["seen"] for name, each in report["verdicts"].items() if not each["kept"]} == {}
        assert list(report["verdicts"]) == ["rotated", "revoked", "nothing_failed", "renewed"]
        assert (report["kept"], report["failure"], played.returncode, played.stderr) == (True, "", 0, "")
        assert min(report["renewals"].values()) >= 4
        assert (list(Path(directory).iterdir()), processes_in(Path(directory))) == ([], [])
