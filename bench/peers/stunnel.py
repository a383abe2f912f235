"""stunnel: a thread per connection, no resumption; the names of both ends are checked by their DNS SAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.pair import Pair
from bench.processes import free_port, need_program

if TYPE_CHECKING:
    from bench.pair import Mode
    from bench.stage import Identity, Stage


def start(stage: Stage, _mode: Mode, backend: int) -> Pair:
    """Start both sides; stunnel has TCP mode only."""
    entry, door = free_port(), free_port()
    client = _service("client = yes", entry, door, as_whom=stage.web, peer=stage.api)
    server = _service("requireCert = yes", door, backend, as_whom=stage.api, peer=stage.web)
    # level 5 (notice), the default, tells of each connection; 3 tells errors
    head = f"foreground = yes\nsyslog = no\npid =\ndebug = {5 if stage.options.peer_logs else 3}\n"
    program = need_program("stunnel", "stunnel4")
    client_side, server_side = (
        stage.processes.start([program, stage.write(f"stunnel-{side}.conf", head + text)], core=stage.cores.proxies)
        for side, text in (("client", client), ("server", server))
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)


def _service(more: str, accept: int, connect: int, *, as_whom: Identity, peer: Identity) -> str:
    return f"""sessionResume = no
[it]
{more}
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
sslVersionMin = TLSv1.3
options = NO_TICKET
cert = {as_whom.both}
CAfile = {as_whom.bundle}
verifyChain = yes
checkHost = {peer.name}
"""
