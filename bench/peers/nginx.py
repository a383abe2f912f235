"""nginx, stream and http: one worker, no resumption; its allow-list is a map of certificate fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.pair import Mode, Pair
from bench.processes import free_port, need_program

if TYPE_CHECKING:
    from bench.stage import Stage

_STREAM_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian: in libnginx-mod-stream
_NEVER: Final = 1_000_000_000  # requests until a connection is closed


def start(stage: Stage, mode: Mode, backend: int) -> Pair:
    """Start both sides."""
    entry, door = free_port(), free_port()
    web, api = stage.web, stage.api
    to_door = (
        f"proxy_ssl_certificate {web.chain}; proxy_ssl_certificate_key {web.key}; proxy_ssl_protocols TLSv1.3;"
        f" proxy_ssl_trusted_certificate {web.bundle}; proxy_ssl_verify on; proxy_ssl_verify_depth 3;"
        f" proxy_ssl_name {api.name}; proxy_ssl_session_reuse off;"
    )
    at_door = (
        f"ssl_certificate {api.chain}; ssl_certificate_key {api.key}; ssl_protocols TLSv1.3;"
        f" ssl_client_certificate {api.bundle}; ssl_verify_client on; ssl_verify_depth 3;"
        " ssl_session_tickets off; ssl_session_cache off; ssl_conf_command NumTickets 0;"
    )
    if mode is Mode.HTTP:
        reuse = 'proxy_http_version 1.1; proxy_set_header Connection "";'
        client = f"""upstream door {{ server 127.0.0.1:{door}; keepalive 256; keepalive_requests {_NEVER}; }}
server {{ listen 127.0.0.1:{entry}; location / {{ proxy_pass https://door; {reuse} {to_door} }} }}"""
        server = f"""map $ssl_client_fingerprint $is_granted {{ {web.fingerprint} 1; default 0; }}
upstream app {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests {_NEVER}; }}
server {{ listen 127.0.0.1:{door} ssl; {at_door}
  location / {{ if ($is_granted = 0) {{ return 403; }} proxy_pass http://app; {reuse} }} }}"""
    else:
        client = f"server {{ listen 127.0.0.1:{entry}; proxy_pass 127.0.0.1:{door}; proxy_ssl on; {to_door} }}"
        # stream knows no `if`: who is not on the list is sent to a port where nobody listens
        server = f"""map $ssl_client_fingerprint $to {{ {web.fingerprint} 127.0.0.1:{backend}; default 127.0.0.1:1; }}
server {{ listen 127.0.0.1:{door} ssl; {at_door} proxy_pass $to; }}"""
    program = need_program("nginx", "nginx")
    client_side, server_side = (
        stage.processes.start(
            [program, "-c", stage.write(f"nginx-{side}.conf", _configuration(stage, side, mode, text))],
            core=stage.cores.proxies,
        )
        for side, text in (("client", client), ("server", server))
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)


def _configuration(stage: Stage, side: str, mode: Mode, servers: str) -> str:
    name = stage.directory / f"nginx-{side}"
    load = f"load_module {_STREAM_MODULE};" if mode is Mode.TCP and _STREAM_MODULE.exists() else ""
    context, form = ("http", "combined") if mode is Mode.HTTP else ("stream", "basic")
    log = f"access_log {name}-access.log {form} buffer=64k flush=1s;" if stage.options.peer_logs else "access_log off;"
    basic = (
        "log_format basic '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time';"
        if mode is Mode.TCP
        else f"keepalive_requests {_NEVER}; keepalive_timeout 1h; client_max_body_size 0;"
        f" client_body_temp_path {name}-bodies; proxy_temp_path {name}-proxied; fastcgi_temp_path {name}-f;"
        f" uwsgi_temp_path {name}-u; scgi_temp_path {name}-s; proxy_request_buffering off; proxy_max_temp_file_size 0;"
    )
    return f"""{load} worker_processes 1; daemon off; pid {name}.pid; error_log {name}-error.log warn;
events {{ worker_connections 19000; }}
{context} {{ {basic} {log} {servers} }}
"""
