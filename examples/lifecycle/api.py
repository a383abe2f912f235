"""The service of this example: it tells what is in stock, and on its feed says back whatever is said to it.

python3 api.py DIRECTORY    listens on DIRECTORY/api.sock and DIRECTORY/feed.sock until SIGTERM
"""

from __future__ import annotations

import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

STOCK = b'{"teapot": 12}'


class Stock(BaseHTTPRequestHandler):
    """GET anything: what is in stock."""

    protocol_version = "HTTP/1.1"  # one connection serves many requests

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(STOCK)))
        self.end_headers()
        self.wfile.write(STOCK)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: two minutes of load are many lines."""


class Feed(socketserver.StreamRequestHandler):
    """Say back what is said, until the other end has no more to say."""

    def handle(self) -> None:
        while said := self.request.recv(4096):
            self.request.sendall(said)


class Server(socketserver.ThreadingUnixStreamServer):
    """One of the two."""

    daemon_threads = True
    request_queue_size = 128

    def get_request(self) -> tuple[socket.socket, str]:
        """A caller on a unix socket has no address, and http.server wants one to print."""
        return super().get_request()[0], "here"


def main() -> None:
    """Serve both until told to end."""
    directory = Path(sys.argv[1])
    servers = [Server(str(directory / "api.sock"), Stock), Server(str(directory / "feed.sock"), Feed)]
    for each in servers:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # before there are threads
    main()
