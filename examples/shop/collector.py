"""A collector of traces, as small as can be: it takes what sidecars send (OTLP/HTTP, JSON) and puts spans in order.

In earnest this is an OpenTelemetry Collector, Jaeger, or Grafana Tempo; they listen on the same port, 4318.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import trio

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
)
_PATIENCE: Final = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Span:
    """What one sidecar did for a request: `server` took it, `client` asked somebody else."""

    service: str
    kind: str
    name: str
    span_id: str
    parent_id: str
    milliseconds: float


class Collector:
    """Keeps the spans it is sent, by trace."""

    def __init__(self) -> None:
        self._spans: dict[str, list[Span]] = {}

    def __repr__(self) -> str:
        return f"<Collector of {len(self._spans)} traces>"

    async def serve(self, port: int, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        """Take spans on this machine's `port`."""
        await trio.serve_tcp(self._take, port, host="127.0.0.1", task_status=task_status)

    async def trace(self, trace_id: str, *, spans: int) -> list[Span]:
        """Wait for so many spans of a trace; return them as they called each other, or those that have come."""
        with trio.move_on_after(_PATIENCE):
            while len(self._spans.get(trace_id, ())) < spans:  # noqa: ASYNC110 - nothing tells when the last has come
                await trio.sleep(0.05)
        found = self._spans.get(trace_id, [])
        by_parent = {span.parent_id: span for span in found}
        first = next((span for span in found if span.parent_id not in {each.span_id for each in found}), None)
        ordered: list[Span] = []
        while first is not None:
            ordered.append(first)
            first = by_parent.get(first.span_id)
        return ordered

    async def _take(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            received = await stream.receive_some()
            data += received
            head, blank, body = data.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not received or (blank and length is not None and len(body) >= int(length[1])):
                break
        if data:
            self._keep(json.loads(body))
            await stream.send_all(_ANSWER)

    def _keep(self, document: Any) -> None:
        for of_resource in document["resourceSpans"]:
            said = {each["key"]: each["value"] for each in of_resource["resource"]["attributes"]}
            for span in (span for scope in of_resource["scopeSpans"] for span in scope["spans"]):
                self._spans.setdefault(span["traceId"], []).append(
                    Span(
                        service=said["service.name"]["stringValue"],
                        kind={2: "server", 3: "client"}[span["kind"]],
                        name=span["name"],
                        span_id=span["spanId"],
                        parent_id=span.get("parentSpanId", ""),
                        milliseconds=(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6,
                    )
                )
