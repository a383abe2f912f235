"""Caddy: HTTP only, configured in its own JSON because only that turns session tickets off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from bench.pair import Pair
from bench.processes import free_port, need_program

if TYPE_CHECKING:
    from bench.pair import Mode
    from bench.stage import Stage

_Json = Mapping[str, object]


def start(stage: Stage, _mode: Mode, backend: int) -> Pair:
    """Start both sides; a request is judged by the first URI SAN of its caller."""
    entry, door = free_port(), free_port()
    web, api = stage.web, stage.api
    to_door: _Json = {
        "protocol": "http",
        "versions": ["1.1"],
        "keep_alive": {"max_idle_conns_per_host": 256},
        "tls": {
            "root_ca_pem_files": [str(web.bundle)],
            "client_certificate_file": str(web.chain),
            "client_certificate_key_file": str(web.key),
            "server_name": api.name,
        },
    }
    to_app: _Json = {"protocol": "http", "versions": ["1.1"], "keep_alive": {"max_idle_conns_per_host": 256}}
    client: _Json = {
        "listen": [f"127.0.0.1:{entry}"],
        "routes": [{"handle": [_forward(door, to_door)]}],
    }
    server: _Json = {
        "listen": [f"127.0.0.1:{door}"],
        "routes": [
            {
                "match": [{"vars": {"{http.request.tls.client.san.uris.0}": [web.uri]}}],
                "handle": [_forward(backend, to_app)],
            },
            {"handle": [{"handler": "static_response", "status_code": 403}]},
        ],
        "strict_sni_host": False,  # the caller's Host is passed on, and the door's SNI is `api`
        "tls_connection_policies": [
            {
                "protocol_min": "tls1.3",
                "client_authentication": {
                    "mode": "require_and_verify",
                    "trusted_ca_certs_pem_files": [str(api.bundle)],
                },
            }
        ],
    }
    tls: _Json = {
        "certificates": {"load_files": [{"certificate": str(api.chain), "key": str(api.key)}]},
        "session_tickets": {"disabled": True},
    }
    client_side, server_side = (
        stage.processes.start(
            [need_program("caddy", "caddy"), "run", "--config", _configuration(stage, side, content, more)],
            core=stage.cores.proxies,
            environment={"GOMAXPROCS": "1", "HOME": str(stage.directory), "XDG_CONFIG_HOME": str(stage.directory)},
        )
        for side, content, more in (("client", client, {}), ("server", server, {"tls": tls}))
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)


def _forward(port: int, transport: _Json) -> _Json:
    return {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{port}"}], "transport": transport}


def _configuration(stage: Stage, side: str, server: _Json, apps: _Json) -> str:
    log = {"output": "file", "filename": str(stage.directory / f"caddy-{side}-access.log"), "roll": False}
    access: _Json = {"logs": {}} if stage.options.peer_logs else {}
    server = {**server, **access, "protocols": ["h1"], "automatic_https": {"disable": True}}
    whole: _Json = {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"writer": log, "encoder": {"format": "json"}}}},
        "apps": {"http": {"servers": {side: server}}, **apps},
    }
    return str(stage.write(f"caddy-{side}.json", msgspec.json.encode(whole).decode()))
