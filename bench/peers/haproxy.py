"""HAProxy: one thread, no resumption. 2.6 cannot read a URI SAN, so its allow-list is of certificate fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.pair import Mode, Pair
from bench.processes import free_port, need_program

if TYPE_CHECKING:
    from bench.stage import Stage


def start(stage: Stage, mode: Mode, backend: int) -> Pair:
    """Start both sides; the certificate is judged once per connection, the cheapest way HAProxy has."""
    entry, door = free_port(), free_port()
    web, api = stage.web, stage.api
    is_http = mode is Mode.HTTP
    log_to = "  log stdout format raw local0 info" if stage.options.peer_logs else ""
    log = f"  log global\n  option {mode}log" if stage.options.peer_logs else ""
    head = f"""
global
  nbthread 1
  tune.ssl.cachesize 0
{log_to}
defaults
  mode {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
{"  http-reuse always" if is_http else ""}
{log}
"""
    client = f"""{head}
frontend out
  bind 127.0.0.1:{entry}
  default_backend far
backend far
  server far 127.0.0.1:{door} ssl ssl-min-ver TLSv1.3 no-ssl-reuse crt {web.both} ca-file {web.bundle} verify required \
verifyhost {api.name}
"""
    server = f"""{head}
frontend in
  bind 127.0.0.1:{door} ssl ssl-min-ver TLSv1.3 no-tls-tickets crt {api.both} ca-file {api.bundle} verify required
  tcp-request session reject unless {{ ssl_c_sha1,hex -m str -i {web.fingerprint} }}
  default_backend app
backend app
  server app 127.0.0.1:{backend}
"""
    program = need_program("haproxy", "haproxy")
    client_side, server_side = (
        stage.processes.start(
            [program, "-db", "-f", stage.write(f"haproxy-{side}.cfg", text)], core=stage.cores.proxies
        )
        for side, text in (("client", client), ("server", server))
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)
