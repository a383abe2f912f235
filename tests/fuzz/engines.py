"""Who throws the bytes: atheris (libFuzzer, led by what code they reach) where it can be imported, else Hypothesis.

Each says how often it ran the target, and writes what broke it as a file: bytes that can be run again by
`python -m tests.fuzz --again FILE TARGET`, and that go into `findings/` when they are mended.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.dice import spoilt
from tests.fuzz.target import load

if TYPE_CHECKING:
    from tests.fuzz.target import Target

_BATCH: Final = 2000  # examples between two looks at the clock
_GRACE: Final = 60.0  # seconds libFuzzer has to begin and to end


@dataclass(frozen=True)
class Outcome:
    """What became of one target. `found` is the file of what broke it, `trace` how."""

    engine: str
    executions: int
    seconds: float
    found: Path | None = None
    trace: str = ""


def run(name: str, within: float, findings: Path, *, engine: str = "") -> Outcome:
    """Fuzz a target for so many seconds, or until something breaks it."""
    has_atheris = importlib.util.find_spec("atheris") is not None
    if (engine or ("atheris" if has_atheris else "hypothesis")) == "atheris":
        return _by_atheris(name, within, findings)
    return by_hypothesis(name, load(name), within, findings)


class _Broken(Exception):
    def __init__(self, data: bytes, trace: str) -> None:
        super().__init__(trace)
        self.data = data
        self.trace = trace


def by_hypothesis(name: str, target: Target, within: float, findings: Path) -> Outcome:
    """As `run`; Hypothesis makes what it finds small before it shows it."""
    began, executions = time.monotonic(), 0
    broken: list[_Broken] = []

    def once(data: bytes) -> None:
        nonlocal executions
        executions += 1
        try:
            target.run(data)
        except Exception as error:
            broken.append(_Broken(data, traceback.format_exc()))
            raise error from None

    for data in target.seeds:
        target.run(data)
    batch = 0
    while not broken and (left := within - (time.monotonic() - began)) > 0:
        batch += 1
        batch_settings = settings(
            max_examples=_BATCH if left > 2 else 100,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        with contextlib.suppress(Exception):  # Hypothesis shows the smallest last
            seed(batch)(batch_settings(given(spoilt(target))(once)))()
    took = time.monotonic() - began
    if not broken:
        return Outcome("hypothesis", executions, took)
    return Outcome("hypothesis", executions, took, _kept(name, broken[-1].data, findings), broken[-1].trace)


def _kept(name: str, data: bytes, findings: Path) -> Path:
    path = findings / name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _by_atheris(name: str, within: float, findings: Path) -> Outcome:
    """In a process of its own: libFuzzer ends the one it runs in."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Path(folder)
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.fuzz.atheris_child", name, str(max(int(within), 1)), folder]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=within + _GRACE, check=False
        )
        took = time.monotonic() - began
        counted = re.findall(r"(?:stat::number_of_executed_units:\s+|^#)(\d+)", done.stderr, re.MULTILINE)
        executions = int(counted[-1]) if counted else 0
        artifact = next((path for path in artifacts.iterdir() if path.is_file()), None)
        if artifact is not None:
            data = artifact.read_bytes()
            return Outcome("atheris", executions, took, _kept(name, data, findings), _trace_of(name, data))
        if done.returncode:
            raise RuntimeError(f"atheris ended with {done.returncode} on {name}:\n{done.stderr}")
        return Outcome("atheris", executions, took)


def _trace_of(name: str, data: bytes) -> str:
    """How it breaks the target, once more in this process."""
    try:
        load(name).run(data)
    except Exception:  # noqa: BLE001 - whatever it is, it is shown
        return traceback.format_exc()
    return "it does not do so a second time: it took too long, or depends on what was thrown before\n"
