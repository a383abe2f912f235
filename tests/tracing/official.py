"""What the official protobuf classes make of a batch, where `opentelemetry-proto` is installed."""

from __future__ import annotations

import base64
import importlib
import json
from typing import Any

import pytest

_IDS = ("traceId", "spanId", "parentSpanId")


def read_by_the_official_classes(body: bytes) -> Any:
    """Parse strictly: an unknown field is an error.

    protobuf's own JSON reads bytes as base64 where OTLP/JSON has ids as hexadecimal; a hexadecimal id would be read
    silently, as something else. So ids are turned into base64 first.
    """
    service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="opentelemetry-proto is not installed"
    )
    json_format = importlib.import_module("google.protobuf.json_format")
    document = json.loads(body)
    for span in (s for r in document["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]):
        for key in _IDS:
            if key in span:
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return json_format.ParseDict(document, service.ExportTraceServiceRequest())
