"""ghostunnel: TCP only; Go resumes nothing unless told to, and the URI SAN of both ends is checked."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from bench.pair import Pair
from bench.processes import free_port, need_program

if TYPE_CHECKING:
    from bench.pair import Mode
    from bench.stage import Stage


def start(stage: Stage, _mode: Mode, backend: int) -> Pair:
    """Start both sides; each logs its connections unless told to be quiet."""
    entry, door = free_port(), free_port()
    web, api = stage.web, stage.api
    program = str(stage.options.ghostunnel or need_program("ghostunnel", "ghostunnel"))
    # From 1.9 on it puts itself into a sandbox, which does not follow the links of an identity directory.
    help_text = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    free = ("--disable-landlock",) if "--disable-landlock" in help_text.stdout + help_text.stderr else ()
    quiet = () if stage.options.peer_logs else ("--quiet", "conns")
    sides = (
        ("client", entry, door, web, ("--override-server-name", api.name, "--verify-uri", api.uri)),
        ("server", door, backend, api, ("--allow-uri", web.uri)),
    )
    client_side, server_side = (
        stage.processes.start(
            [
                *(program, side, "--listen", f"127.0.0.1:{listen}", "--target", f"127.0.0.1:{target}"),
                *("--cert", as_whom.chain, "--key", as_whom.key, "--cacert", as_whom.bundle),
                *(*more, *free, *quiet),
            ],
            core=stage.cores.proxies,
            environment={"GOMAXPROCS": "1"},
        )
        for side, listen, target, as_whom, more in sides
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)
