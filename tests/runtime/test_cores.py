from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from meshproxy.runtime import cores
from meshproxy.runtime.cores import processes_for, usable_cores

if TYPE_CHECKING:
    from pathlib import Path

CORES = 8


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with eight cores for us, in the control group /a/b; what limits it, tests write."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "self").write_text("12:cpu:/elsewhere\n0::/a/b\n")
    monkeypatch.setattr(cores, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(cores, "_OURS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(CORES)), raising=False)
    return tmp_path


def test_it_is_what_affinity_allows_where_nothing_else_limits(groups: Path) -> None:
    assert usable_cores() == CORES
    assert (processes_for("auto"), processes_for(3)) == (CORES, 3)


@pytest.mark.parametrize(
    ("own", "around", "usable"),
    [
        ("max 100000", "max 100000", CORES),
        ("200000 100000", "max 100000", 2),
        ("max 100000", "350000 100000", 3),  # a group's limit is that of all below it
        ("400000 100000", "150000 50000", 3),
        ("150000 100000", "max 100000", 1),
        ("50000 100000", "max 100000", 1),
        ("9999999 100000", "max 100000", CORES),
        ("", "nonsense", CORES),
    ],
)
def test_a_quota_counts_in_whole_cores_and_at_least_one(groups: Path, own: str, around: str, usable: int) -> None:
    (groups / "a" / "b" / "cpu.max").write_text(own)
    (groups / "a" / "cpu.max").write_text(around)
    assert usable_cores() == usable


@pytest.mark.parametrize("told", ["3:cpu:/x\n", ""])
def test_without_such_groups_affinity_decides(groups: Path, told: str) -> None:
    (groups / "self").write_text(told)
    assert usable_cores() == CORES
    (groups / "self").unlink()
    assert usable_cores() == CORES


def test_where_the_system_knows_no_affinity_it_is_the_machine(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
