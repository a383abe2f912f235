"""The `meshproxy` command with the fast lane for common heads turned off: guard and h11 read every head.

python -m bench.h11_only run FILE
"""

from __future__ import annotations

import sys

from meshproxy.cli.main import main
from meshproxy.http import parse

if not hasattr(parse, "USE_FAST_LANE"):
    sys.exit("this version has no fast lane to turn off")

parse.USE_FAST_LANE = False
main()
