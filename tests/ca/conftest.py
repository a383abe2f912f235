"""No power fails in these tests: what a kill leaves is in the kernel's hands, and nobody waits for the disk."""

from __future__ import annotations

import os
from typing import Final

import pytest

from ca import sqlite_ledger

_AS_SHIPPED: Final = sqlite_ledger._SYNCHRONOUS


@pytest.fixture(autouse=True)
def no_power_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _AS_SHIPPED == "FULL"
    monkeypatch.setattr(sqlite_ledger, "_SYNCHRONOUS", "OFF")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
