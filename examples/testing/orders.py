"""A small service, as it is: plain HTTP on loopback, and no word about certificates."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Orders(ThreadingHTTPServer):
    """Keeps orders, by number."""

    daemon_threads = True

    def __init__(self, port: int = 8080) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.orders = {7: {"what": "a lamp", "by": "/checkout"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def orders(self) -> dict[int, dict[str, str]]:
        assert isinstance(self.server, Orders)
        return self.server.orders

    def do_GET(self) -> None:
        number = self.path.removeprefix("/orders/")
        order = self.orders.get(int(number)) if number.isdigit() else None
        self._answer(200 if order else 404, order or {"error": "no such order"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        # Who called, the sidecar says: whatever a caller claims in this field has been removed.
        caller = self.headers["x-mesh-client-id"].removeprefix("spiffe://mesh.test")
        number = max(self.orders) + 1
        self.orders[number] = {"what": json.loads(body)["what"], "by": caller}
        self._answer(201, {"number": number})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as http.server calls it
        """Say nothing."""


if __name__ == "__main__":
    Orders().serve_forever()
