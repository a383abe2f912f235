"""How much of the memory a process may have it has: of its own limit (RLIMIT_AS), and of its control group's."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGESIZE")
_STATM: Final = Path("/proc/self/statm")  # proc_pid_statm(5): size, resident, ... in pages
_GROUP: Final = Path("/proc/self/cgroup")  # cgroups(7); version 2 has one line, `0::/path`
_GROUPS: Final = Path("/sys/fs/cgroup")


class Memory:
    """Looked at as often as one likes: two or three small files of the kernel."""

    def __init__(self, group: Path | None = None) -> None:
        """Look at our own control group, or at another directory that has its files."""
        self._group = group or _own_group()

    def __repr__(self) -> str:
        return f"<Memory group={self._group} share={self.share:.2f}>"

    @property
    def share(self) -> float:
        """The share of the tighter of both limits that is used; 0.0 where there is none, or nothing to look at."""
        return max(self._of_process(), self._of_group())

    def _of_process(self) -> float:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return 0.0
        with contextlib.suppress(OSError, ValueError):
            return int(_STATM.read_text().split()[0]) * _PAGE / max(limit, 1)
        return 0.0

    def _of_group(self) -> float:
        if self._group is None:
            return 0.0
        with contextlib.suppress(OSError, ValueError):  # "max": none
            limit = int((self._group / "memory.max").read_text())
            used = int((self._group / "memory.current").read_text())
            # What files were read or written counts too, and is given back when it is wanted.
            return (used - self._files()) / max(limit, 1)
        return 0.0

    def _files(self) -> int:
        assert self._group is not None
        for line in (self._group / "memory.stat").read_text().splitlines():
            if line.startswith("file "):
                return int(line.split()[1])
        return 0


def _own_group() -> Path | None:
    with contextlib.suppress(OSError):
        for line in _GROUP.read_text().splitlines():
            if line.startswith("0::/"):
                group = _GROUPS / line[4:]
                return group if (group / "memory.max").exists() else None
    return None
