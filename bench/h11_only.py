"""The `meshproxy` command with the fast lane for common heads turned off: guard and h11 read every head.

python -m bench.h11_only run FILE
"""

from __future__ import annotations

from meshproxy.cli.main import main
from meshproxy.http import parse

parse.USE_FAST_LANE = False
main()
