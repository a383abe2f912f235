"""The `meshproxy` command for which no head is familiar: as if every request and answer said something new.

python -m bench.unfamiliar run FILE
"""

from __future__ import annotations

from meshproxy.cli.main import main
from meshproxy.http import familiar

familiar._LONGEST_KEPT = -1  # type: ignore[misc]  # noqa: SLF001 - nothing is short enough to be kept
main()
