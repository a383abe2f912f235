"""Two hundred callers who connect and ask at once, out of nowhere, are all served: a burst is no overload."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.closed_loop import Turn
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

CALLERS = 200
SECONDS = 60  # at most, for all of them with their handshakes, on a machine busy with something else


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["", '[runtime]\nmax_lag = "20ms"\n'], ids=["default", "20ms"])
def test_a_burst_on_an_idle_sidecar_is_served_in_full(stage: Stage, runtime: str) -> None:
    port = free_port()
    api = stage.sidecar("api", runtime + inbound(forward=f"127.0.0.1:{port}", protocol="http"))
    web = stage.identity("/web").directory
    script = Path(__file__).with_name("closed_loop.py")
    # All of them come; in the second turn each leaves as soon as it is answered.
    command = [sys.executable, script, api.address("api"), web, port, f"{CALLERS}:0", f"0:{SECONDS}"]
    told = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, check=True, timeout=2 * SECONDS)
    turns = [Turn(**json.loads(line)) for line in told.stdout.splitlines()]
    for turn in turns:
        print(f"{turn.served} served in {turn.seconds:.1f} s, {turn.refused} refused, {turn.cut} cut")
    assert [(turn.refused, turn.cut, turn.wrong) for turn in turns] == [(0, 0, 0)] * 2
    assert sum(turn.served for turn in turns) == CALLERS
    assert api.metric("meshproxy_limit_hits_total", listener="api", limit="overload") == 0
