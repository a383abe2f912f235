"""How many cores this process may use: by its affinity, and by the CPU quota of its control group."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from meshproxy.settings.schema import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.settings.schema import Workers

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")


def processes_for(workers: Workers) -> int:
    """Return how many workers are meant."""
    return usable_cores() if workers == AUTO else workers


def usable_cores() -> int:
    """Return how many cores' worth of time this process gets; at least 1.

    A quota of 1.5 cores is 1: a second worker would be stopped half of the time, with all its connections.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Yield the limits of our control group and of those around it (cgroup v2, cpu.max: quota and period, or `max`)."""
    try:
        ours = next(line for line in _OURS.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return
    group = _CONTROL_GROUPS / ours.removeprefix("0::").lstrip("/")
    for place in (group, *group.parents):
        try:
            quota, period = (place / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # the root has none, nor has a group without this controller
        if quota != "max":
            yield int(quota) / int(period)
