"""structlog, as it is where nothing but what we ask for is installed.

It loads rich where that happens to be there, for coloured tracebacks: 4 MiB in each sidecar, and a log that looks
different on the developer's machine.
"""

from __future__ import annotations

import sys

_hidden = "rich" not in sys.modules and "structlog" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's word for "not there"
try:
    import structlog as structlog  # noqa: PLC0414 - given on
finally:
    if _hidden:
        del sys.modules["rich"]
