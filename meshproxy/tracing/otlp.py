"""How spans are written: OTLP's JSON (opentelemetry-proto 1.x, `docs/specification.md`, "JSON Protobuf Encoding").

Ids are hexadecimal and not base64, enumerations are numbers, and 64-bit numbers are text. Each span is written when its
request is over, so what waits are bytes whose size is known; a batch only puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

Attributes = Mapping[str, str | int | bool]

JSON: Final = b"application/json"
TRACES: Final = "/v1/traces"  # behind an endpoint that names no path of its own

# Of Span.flags: the low byte is that of the traceparent; the next say whether its parent is another process's.
_SAMPLED: Final = 0x01
_PARENT_IS_KNOWN: Final = 0x100
_PARENT_IS_REMOTE: Final = 0x200

_ERROR: Final = 2  # STATUS_CODE_ERROR
_BATCH: Final = b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"scope":%b,"spans":[%b]}]}]}'
_encode = msgspec.json.Encoder().encode
_SCOPE: Final = _encode({"name": "meshproxy", "version": __version__})


class Kind(IntEnum):
    """Of a span, by OTLP's numbers."""

    SERVER = 2
    CLIENT = 3


class Span(msgspec.Struct, frozen=True):
    """One span; times are nanoseconds since 1970, `error` is empty unless it failed."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: Kind
    began: int
    ended: int
    attributes: Attributes
    is_error: bool = False
    state: str = ""
    parent_is_remote: bool = False


def write_span(span: Span) -> bytes:
    """Return a span as it stands in a batch."""
    written: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "flags": _SAMPLED | _PARENT_IS_KNOWN | (_PARENT_IS_REMOTE if span.parent_is_remote else 0),
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.began),
        "endTimeUnixNano": str(max(span.began, span.ended)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        written["parentSpanId"] = span.parent_id
    if span.state:
        written["traceState"] = span.state
    if span.is_error:
        written["status"] = {"code": _ERROR}
    return _encode(written)


def write_batch(resource: Attributes, spans: Sequence[bytes]) -> bytes:
    """Return the body of a request to a collector; `resource` says whose spans these are."""
    return _BATCH % (_encode({"attributes": _attributes(resource)}), _SCOPE, b",".join(spans))


def _attributes(attributes: Attributes) -> list[object]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: str | int | bool) -> dict[str, object]:  # noqa: FBT001 - a value of an attribute
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
