"""How busy the loop is, as the kernel tells it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from meshproxy.wire import busy

if TYPE_CHECKING:
    from pathlib import Path


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.mark.skipif(not busy._SCHEDSTAT.exists(), reason="this kernel does not tell")
def test_a_loop_that_sleeps_is_not_busy_and_one_that_spins_is() -> None:
    busyness = busy.Busyness()
    time.sleep(0.3)
    assert busyness.share() < 0.6  # a machine busy with something else lets it wait for the end of its sleep
    spin(0.3)
    assert busyness.share() > 0.8
    assert repr(busyness) == "<Busyness known=True>"


def test_where_nobody_knows_it_counts_as_busy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(busy, "_SCHEDSTAT", tmp_path / "none")
    busyness = busy.Busyness()
    time.sleep(0.01)
    assert busyness.share() == 1.0
