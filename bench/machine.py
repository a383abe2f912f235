"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import ssl
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.peers import find_peer, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.options import Options
    from bench.peers import Peer

_IDLE: Final = 0.5  # load average below which nothing else is going on


def describe_machine() -> dict[str, str]:
    """Tell the processor, how many cores this process may use, the kernel, and what else was going on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(models, platform.machine()),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "load average before": _judged(os.getloadavg()[0]),
    }


def _judged(load: float) -> str:
    return f"{load:.2f}" if load < _IDLE else f"{load:.2f} (NOT IDLE: these figures are not to be trusted)"


def describe_versions(peers: Iterable[Peer], options: Options) -> dict[str, str]:
    """Tell the versions of the product, of what it runs on, and of the peers."""
    ours = {name: metadata.version(name) for name in ("meshproxy", "trio", "cryptography", "h11", "msgspec")}
    ours |= {"Python": platform.python_version(), "Python's OpenSSL": ssl.OPENSSL_VERSION.split()[1]}
    return ours | {
        peer.name: version_of(peer, program)
        for peer in peers
        if (program := find_peer(peer, options.ghostunnel)) is not None
    }
