"""The wire floor: bytes, sockets and TLS; it knows no policy and no settings.

address     where to listen or connect, parsed once
readiness   the engine: one edge-triggered epoll, plain callbacks, no task switch per message
tls         SSLObject over memory BIOs: handshake, alerts, close_notify
splice      plain bytes <-> TLS records, half-close, back-pressure
listen      accept loops, TCP and unix, peer credentials
dial        name resolution and connecting, in turn
"""
