"""A wall clock that is set while those who go by it run. Needs libfaketime (Debian: faketime).

clock.set("+3d")                                      # a machine that slept, or whose clock was set
with clock.beside():
    api = stage.sidecar(...)                          # goes by this clock; the test does not
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# In front of the tables of a sidecar that goes by a clock: it reads the clock's file, which is none of its own.
IN_REACH = '[runtime]\nsandbox = "off"\n'
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class Clock:
    """The wall clock of whatever is started `beside` it; others have their own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """Go by `+3d`, `-5m`: so much from the true time; those who go by it follow at once."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.rename(self._file)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What is started meanwhile goes by this clock. Monotonic time is left as it is, as when a machine sleeps."""
        ours = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]
