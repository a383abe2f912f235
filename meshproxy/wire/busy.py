"""How busy the loop is: the share of the time in which it ran, or would have if others had left it the processor."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

# proc_pid_schedstat(5): nanoseconds on the processor, nanoseconds waiting for it, ...; of the main thread, which is the
# loop's.
_SCHEDSTAT: Final = Path("/proc/self/schedstat")
_LINE: Final = 256  # bytes; it is three numbers
_NANO: Final = 1e-9


class Busyness:
    """Looked at again and again; each look tells of the time since the one before."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._busy = self._look()

    def __repr__(self) -> str:
        return f"<Busyness known={self._busy is not None}>"

    def share(self) -> float:
        """Return the share of the time since the last call in which the loop did not sleep; 1.0 where nobody knows."""
        now, busy = time.monotonic(), self._look()
        before, since = self._busy, self._at
        self._busy, self._at = busy, now
        if busy is None or before is None or now <= since:
            return 1.0
        return min((busy - before) / (now - since), 1.0)

    def _look(self) -> float | None:
        with contextlib.suppress(OSError, ValueError):
            # Not by way of a file object: that is six system calls more, several times a second for as long as it runs.
            descriptor = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
            try:
                ran, waited, _ = os.read(descriptor, _LINE).split()
            finally:
                os.close(descriptor)
            return (int(ran) + int(waited)) * _NANO
        return None
