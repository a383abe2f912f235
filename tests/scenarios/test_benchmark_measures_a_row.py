"""`make bench` in its shortest form: one row, one round of one second, one peer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.results import from_json
from tests.scenarios.programs import require

ROOT = Path(__file__).resolve().parent.parent.parent
ROW = "tcp-keepalive"

pytestmark = pytest.mark.long


def test_a_row_is_measured_beside_a_peer_and_saved(tmp_path: Path) -> None:
    for program in ("wrk", "haproxy", "openssl", "taskset", "setpriv"):
        require(program)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmark needs two cores")
    saved = tmp_path / "samples.json"
    options = ["--only", ROW, "--peers", "haproxy", "--rounds", "1", "--seconds", "1", "--json", saved]
    command = [sys.executable, "-m", "bench", *map(str, options)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (block,) = from_json(saved.read_bytes()).blocks
    assert set(block.samples) == {"meshproxy", "haproxy"}
    assert all(0 < value < 1e6 for samples in (*block.samples.values(), block.floor) for value in samples)
    assert f"{ROW}: " in done.stdout
