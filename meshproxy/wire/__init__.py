"""The wire floor: bytes, sockets and TLS; it knows no policy and no settings.

address     where to listen or connect, parsed once
readiness   the engine: one edge-triggered epoll, plain callbacks, no task switch per message
buffers     the scratch memory all connections share, and the budget for what waits; taken: who may be read much for
fiber       a coroutine in callbacks of the engine, and in a task from where it needs one
turnstile   handshakes in a row, so that they hold up nobody else
tls         SSLObject over memory BIOs: handshake, alerts (tls_faults: why one failed, in words)
splice      plain bytes <-> TLS records as callbacks: half-close, back-pressure, every kind of end
encrypting  its state, and its one direction: plain bytes become records
channel     one byte stream, plain or TLS, as HTTP uses it; sweep: its deadlines on a coarse clock
relay       one established connection attended to its end: idle, age, proper close or RST
ends        the words for how a connection ended      closing  ways to close a socket
listen      binding and accept loops, TCP and unix, peer credentials
inherited   listening sockets that were there before us
proxy_protocol  who really called, in a header before a connection's first byte
dial        name resolution and connecting
probe       a look at a stranger's TLS endpoint, which no relay accepts
"""
