"""`make demo-policy`: learnt, reviewed, enforced; nobody is wrongly denied, and an intruder is, with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.scenarios.test_demo import processes_in

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_every_promise_is_kept_and_nothing_is_left() -> None:
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        played = subprocess.run(
            [sys.executable, str(ROOT / "examples/policy/demo.py")],
            env={**os.environ, "TMPDIR": directory, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        print(played.stdout)
        assert (played.returncode, played.stderr) == (0, "")
        assert "7 of 7 promises kept." in played.stdout
        assert "BROKEN" not in played.stdout
        assert (list(Path(directory).iterdir()), processes_in(Path(directory))) == ([], [])
