"""The units in examples/systemd: sound, and so hardened that an intruder finds little; judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "examples" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
MOST_EXPOSED = 2.0

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_there_are_units() -> None:
    assert [unit.name for unit in SERVICES] == ["meshproxy-ca.service", "meshproxy@.service"]


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_exposure_is_at_most_two(unit: Path) -> None:
    told = analyze("security", "--offline=true", "--threshold=20", unit)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    assert level is not None, told.stdout + told.stderr
    print(f"{unit.name}: {level[1]}")
    assert float(level[1]) <= MOST_EXPOSED
    assert told.returncode == 0


@needs_systemd
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    """No key it does not know, no program that is missing; `/usr/bin/meshproxy` is where a package would put it."""
    for unit in UNITS.glob("meshproxy*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/meshproxy", sys.executable))
    told = analyze("verify", "--man=no", "--recursive-errors=no", *sorted(tmp_path.iterdir()))
    ours = [line for line in told.stderr.splitlines() if "meshproxy" in line]
    assert ours == []
    assert told.returncode == 0


def test_a_reload_is_a_take_over_and_the_watchdog_is_heard() -> None:
    unit = (UNITS / "meshproxy@.service").read_text()
    assert "\nExecReload=/usr/bin/meshproxy run --take-over --detach /etc/meshproxy/%i.toml\n" in unit
    assert "\nNotifyAccess=all\n" in unit  # the process that takes over says so itself
    assert "\nKillMode=mixed\n" in unit  # workers are led
    assert "\nWatchdogSec=" in unit
