"""Audit logs on the stage: where they are, what the commands make of them, and disks that are full."""

from __future__ import annotations

import contextlib
import json
import resource
from typing import TYPE_CHECKING

from tests.scenarios.stage import Line, Sidecar, meshproxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.scenarios.stage import Stage

ONE_PROCESS = "[runtime]\nworkers = 1\n"


def audit(more: str = "") -> str:
    """Settings with an audit log, and one process."""
    return f'{ONE_PROCESS}[audit]\nfile = "audit.jsonl"\n{more}\n'


def lines(file: Path) -> list[Line]:
    """What stands in a log."""
    return [Line(json.loads(each)) for each in file.read_bytes().splitlines()]


def decisions(file: Path) -> list[Line]:
    """The decisions in a log."""
    return [each for each in lines(file) if each["event"] == "decision"]


def verify(stage: Stage, *arguments: str | Path) -> CompletedProcess[str]:
    """Judge api's audit log by the roots of the mesh."""
    files = sorted(stage.workspace.glob("audit*.jsonl*"))
    bundle = stage.identity("/api").bundle
    return meshproxy("audit", "verify", *files, "--bundle", bundle, "--id", "spiffe://mesh.test/api", *arguments)


@contextlib.contextmanager
def full_disk(sidecar: Sidecar, file: Path, *, room: int = 100) -> Iterator[None]:
    """No file of the sidecar can grow beyond what this one has, and a little: it ends in the middle of a line."""
    pid = sidecar.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (file.stat().st_size + room, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
