"""A fake OpenTelemetry collector: it keeps what it is sent, and answers as it is told.

collector = stage.keep(Collector())
web = stage.sidecar("web", tracing(collector.address) + outbound(...))
spans = collector.spans(4)                            # waits for so many
spans[0].attributes["http.response.status_code"]
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as a collector sees it."""

    service: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    began: int
    ended: int
    is_error: bool
    attributes: dict[str, str]


class Collector:
    """Listens on a free port of 127.0.0.1; `refusals` are the statuses of its next answers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.fields: list[dict[str, str]] = []
        self.refusals: list[int] = []
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.take(self.path, body, {k.lower(): v for k, v in self.headers.items()})
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        with contextlib.suppress(OSError):
            self._server.server_close()

    def take(self, path: str, body: bytes, fields: dict[str, str]) -> int:
        """Keep a batch; returns the status to answer."""
        with self._changed:
            self.paths.append(path)
            self.fields.append(fields)
            status = self.refusals.pop(0) if self.refusals else 200
            if status == 200:
                self.bodies.append(body)
            self._changed.notify_all()
        return status

    def spans(self, at_least: int, *, within: float = PATIENCE) -> list[Seen]:
        """Wait for so many; all that have come, by when they began."""
        deadline = time.monotonic() + within
        with self._changed:
            while len(found := [span for body in self.bodies for span in _spans(body)]) < at_least:
                if not self._changed.wait(deadline - time.monotonic()):
                    pytest.fail(f"only {len(found)} of {at_least} spans came within {within:g} s: {found}")
        return sorted(found, key=lambda span: span.began)


def _spans(body: bytes) -> list[Seen]:
    document = json.loads(body)
    return [
        Seen(
            service=_attributes(of_resource["resource"])["service.name"],
            trace_id=span["traceId"],
            span_id=span["spanId"],
            parent_id=span.get("parentSpanId", ""),
            name=span["name"],
            kind=span["kind"],
            began=int(span["startTimeUnixNano"]),
            ended=int(span["endTimeUnixNano"]),
            is_error=span.get("status", {}).get("code") == 2,
            attributes=_attributes(span),
        )
        for of_resource in document["resourceSpans"]
        for of_scope in of_resource["scopeSpans"]
        for span in of_scope["spans"]
    ]


def _attributes(holder: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in holder["attributes"]}


def tracing(address: str, *, sample: float = 1.0, more: str = "", scheme: str = "http") -> str:
    """A [tracing] table."""
    return f'[tracing]\nendpoint = "{scheme}://{address}"\nsample = {sample}\n{more}\n'
