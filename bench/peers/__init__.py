"""The proxies we stand beside, each in a room of its own.

All speak TLS 1.3 only, want a certificate from both ends, let in `web` alone, resume nothing, and have one thread or
process for the work, as the product has. Client side and server side are two processes, as two sidecars are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.pair import Mode, Pair
from bench.peers import caddy, ghostunnel, haproxy, nginx, stunnel
from bench.processes import BenchError, find_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.stage import Stage

_BOTH: Final = frozenset(Mode)


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy by others.

    name        as `--peers` and the table call it
    program     what is looked for
    install     how to get it
    modes       what it can carry
    version     the arguments that make it tell its version
    """

    name: str
    program: str
    install: str
    modes: frozenset[Mode]
    version: str
    begin: Callable[[Stage, Mode, int], Pair]

    def start(self, stage: Stage, mode: Mode, backend: int) -> Pair:
        """Start a pair of it."""
        return self.begin(stage, mode, backend)


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("haproxy", "haproxy", "apt-get install haproxy", _BOTH, "-v", haproxy.start),
        Peer("nginx", "nginx", "apt-get install nginx libnginx-mod-stream", _BOTH, "-v", nginx.start),
        Peer("stunnel", "stunnel", "apt-get install stunnel4", frozenset({Mode.TCP}), "-version", stunnel.start),
        Peer("caddy", "caddy", "apt-get install caddy", frozenset({Mode.HTTP}), "version", caddy.start),
        Peer(
            "ghostunnel",
            "ghostunnel",
            "take a release from https://github.com/ghostunnel/ghostunnel and say GHOSTUNNEL=/path/to/it",
            frozenset({Mode.TCP}),
            "--version",
            ghostunnel.start,
        ),
    )
}


def find_peer(peer: Peer, ghostunnel_at: Path | None) -> str | None:
    """Return where the peer's program is; raises BenchError if ghostunnel is not where it is said to be."""
    if peer.name != "ghostunnel" or ghostunnel_at is None:
        return find_program(peer.program)
    if shutil.which(ghostunnel_at) is None:
        raise BenchError(f"{ghostunnel_at} is no program")
    return str(ghostunnel_at)


def version_of(peer: Peer, program: str) -> str:
    """Return the first number with dots that the program tells when asked for its version."""
    done = subprocess.run([program, peer.version], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"
