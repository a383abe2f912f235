"""meshproxy: a trio sidecar that speaks mutual TLS for one service and enforces its allow-list.

The house, from the roof down (imports go downward only; `make check` enforces it):

    cli        the commands a person types       testing  a mesh for tests   floor 7
    runtime    where everything is wired; watch, drain, signals              floor 6
    inbound    others -> this service      outbound  this service -> others  floor 5
    upstream   endpoints, name resolution, identified connections            floor 4
    identity   own certificate, contexts, the judged peer    admin  /status  floor 3
    policy     the allow-list: read, match, decide   settings  the TOML      floor 2
    wire       readiness, TLS, splice    limits  telemetry  snapshot errors  floor 1
    ca         (its own package) who gets which certificate                  ground
"""

__version__ = "0.1.0"
