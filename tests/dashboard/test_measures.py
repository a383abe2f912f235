"""What the page computes, tried without a browser: its pure modules under `node --test`, on fixtures made here."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from meshproxy.dashboard import assets
from meshproxy.telemetry.bounds import BUCKETS, bucket_of
from meshproxy.telemetry.flows import Edge
from meshproxy.telemetry.quantiles import quantile
from tests.dashboard.acting import large

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NODE = shutil.which("node")
NOW = 1_764_000_000 + 30
HOUR = 3600


def story(
    calls: Mapping[tuple[str, str], tuple[float, float]],
    after: Mapping[tuple[str, str], tuple[float, float, float]],
    *,
    since: int,
) -> dict[str, object]:
    """Answers of /series for the page's two histories: (requests, seconds) each minute, other ones from `since` on."""

    def told(step: int, columns: int) -> dict[str, object]:
        first = NOW // step - columns + 1
        edges = []
        for number, ((source, target), (requests, seconds)) in enumerate(calls.items()):
            points, histogram = [], []
            for column in range(columns):
                at = (first + column) * step
                now = after.get((source, target)) if at >= since else None
                rate, each, failed = (requests, seconds, 0.0) if now is None else now
                count = round(rate * step / 60)
                if not count:
                    continue
                points.append([column, count, round(count * failed), 0, 0, 0, count * each, 0])
                counts = [0] * BUCKETS
                counts[bucket_of(each)] = count
                histogram.append([column, counts])
            edge = Edge("destination", source, target, "api", "http")
            edges.append(
                {
                    "edge": f"e{number}",
                    "reporter": edge.reporter,
                    "source": source,
                    "target": target,
                    "protocol": "http",
                }
                | {"mtls": True, "points": points, "histogram": histogram}
            )
        return {"now": NOW, "step": step, "start": first * step, "columns": columns, "edges": edges}

    return {"now": NOW, "since": since, "recent": told(60, 60), "past": told(300, 72)}


USUAL = {("/web", "/orders"): (600, 0.020), ("/orders", "/ledger"): (600, 0.010), ("/orders", "/stock"): (900, 0.003)}


def fixtures() -> dict[str, object]:
    dice = random.Random(4)
    since = NOW // 60 * 60 - 20 * 60
    histograms = [[dice.choice([0, 0, 1, 7, 100]) for _ in range(BUCKETS)] for _ in range(60)] + [[0] * BUCKETS]
    slow = story(
        USUAL, {("/web", "/orders"): (600, 0.080, 0.0), ("/orders", "/ledger"): (600, 0.070, 0.0)}, since=since
    )
    broken = {("/web", "/catalog"): (120, 0.004), **USUAL}
    return {
        "quantiles": [
            {"counts": counts, "q": q, "expected": quantile(q, counts)}
            for counts in histograms
            for q in (0.5, 0.95, 0.99)
        ],
        "slow": {**slow, "factor": 4},
        "usual": story(USUAL, {}, since=NOW + HOUR),
        "failing": story(
            broken, {("/web", "/catalog"): (0, 0.0, 0.0), ("/orders", "/stock"): (900, 0.003, 0.2)}, since=since
        ),
        "large": {"calls": [{"source": line.source, "target": line.target} for line in large()]},
    }


@pytest.mark.skipif(NODE is None, reason="no node is installed: apt-get install nodejs")
def test_pure_modules_of_the_page_hold_under_node(tmp_path: Path) -> None:
    assert NODE is not None
    for name, value in fixtures().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    static = assets._STATIC
    script = (static.parents[2] / "tests/dashboard/js/measure.test.mjs").resolve()
    environment = {**os.environ, "MESHPROXY_STATIC": str(static), "MESHPROXY_FIXTURES": str(tmp_path), "TZ": "UTC"}
    done = subprocess.run([NODE, "--test", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
