"""What stands behind every pair: small answers from nginx (or from here where nginx is missing), bulk from here.

    python -m bench.backend small PORT      answers any request with 1 KiB; keeps connections
    python -m bench.backend bulk PORT       one exchange per connection: 100 MiB sent or taken, or 1 KiB

Both run on the load core, so what they cost is nobody's figure.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.bulk import BULK_BYTES, CHUNKED_FIELD, LENGTH_FIELD, PIECE, send_body, swallow
from bench.processes import find_program, free_port, need_program

if TYPE_CHECKING:
    from bench.processes import Process
    from bench.stage import Stage

SMALL_PATH: Final = "/1k"
LENGTH_PATH: Final = "/length"  # 100 MiB framed by Content-Length
CHUNKED_PATH: Final = "/chunked"  # the same in chunks
TRACES_PATH: Final = "/v1/traces"  # whatever is posted there is taken
SMALL_BODY: Final = b"0123456789abcdef" * 64  # 1 KiB

PYTHONPATH: Final = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}  # where `-m bench.…` is found
_SMALL_FIELDS: Final = b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(SMALL_BODY)
_SMALL_REPLY: Final = b"HTTP/1.1 200 OK\r\n" + _SMALL_FIELDS + SMALL_BODY
_LAST_SMALL_REPLY: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + _SMALL_FIELDS + SMALL_BODY


def start_small(stage: Stage) -> int:
    """Start what serves `SMALL_PATH`, nginx where it is installed; returns its port."""
    nginx = find_program("nginx")
    return _start_own(stage, "small", free_port()) if nginx is None else _start_nginx(stage, nginx)


def start_mixed(stage: Stage) -> int:
    """Start what serves `SMALL_PATH` and `LENGTH_PATH` side by side, which takes nginx; returns its port."""
    return _start_nginx(stage, need_program("nginx", "nginx"))


def _start_nginx(stage: Stage, nginx: str) -> int:
    port = free_port()
    pages = stage.directory / "pages"
    pages.mkdir(exist_ok=True)
    (pages / SMALL_PATH.strip("/")).write_bytes(SMALL_BODY)
    with (pages / LENGTH_PATH.strip("/")).open("wb") as page:
        page.truncate(BULK_BYTES)
    name = stage.directory / f"backend-{port}"
    configuration = f"""worker_processes 1; daemon off; pid {name}.pid; error_log {name}-error.log;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on;
  client_body_temp_path {name}-b; proxy_temp_path {name}-p; fastcgi_temp_path {name}-f; uwsgi_temp_path {name}-u;
  scgi_temp_path {name}-s;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {pages};
    location = {TRACES_PATH} {{ default_type application/json; return 200 "{{}}"; }}
  }}
}}
"""
    command: list[str | Path] = [nginx, "-c", stage.write(f"backend-{port}.conf", configuration)]
    return _listening(stage.processes.start(command, core=stage.cores.load), port)


def start_bulk(stage: Stage) -> int:
    """Start what serves `LENGTH_PATH` and `CHUNKED_PATH` and swallows uploads; returns its port."""
    return _start_own(stage, "bulk", free_port())


def _start_own(stage: Stage, kind: str, port: int) -> int:
    command: list[str | Path] = [sys.executable, "-m", "bench.backend", kind, str(port)]
    return _listening(stage.processes.start(command, core=stage.cores.load, environment=PYTHONPATH), port)


def _listening(process: Process, port: int) -> int:
    process.wait_until_listening(port)
    return port


def serve_small(listener: socket.socket) -> None:
    """Answer every read that ends a head; a request this small comes in one piece."""
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            connection = connections[descriptor]
            asked = b""
            with contextlib.suppress(OSError):
                asked = connection.recv(PIECE)
            is_last = b"\r\nconnection: close" in asked.lower()
            if asked:
                connection.sendall(_LAST_SMALL_REPLY if is_last else _SMALL_REPLY)
            if is_last or not asked:
                poll.unregister(connection)
                connections.pop(descriptor).close()


def serve_bulk(listener: socket.socket) -> None:
    """Give each connection a thread and one exchange."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_exchange, args=(connection,), daemon=True).start()


def _exchange(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(PIECE)
            if not received:
                return
            head += received
        asked, _, body = head.partition(b"\r\n\r\n")
        if asked.startswith(b"GET %b " % SMALL_PATH.encode()):
            connection.sendall(_LAST_SMALL_REPLY)
        elif asked.startswith(b"GET"):
            _send_bulk(connection, chunked=CHUNKED_PATH.encode() in asked.partition(b"\r\n")[0])
        else:
            swallowed = swallow(connection, body, chunked=b"\r\ntransfer-encoding: chunked" in asked.lower())
            answer = b"%d" % swallowed
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
            )
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(PIECE):
            pass


def _send_bulk(connection: socket.socket, *, chunked: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
    connection.sendall(head + (CHUNKED_FIELD if chunked else LENGTH_FIELD) + b"\r\n")
    send_body(connection, chunked=chunked)


def main() -> None:
    """Serve until ended."""
    kind, port = sys.argv[1], int(sys.argv[2])
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
        {"small": serve_small, "bulk": serve_bulk}[kind](listener)


if __name__ == "__main__":
    main()
