"""From the bytes of a head to its value.

The common heads are recognised by fast_lane. What it declines goes the long way, which alone refuses: guard judges the
bytes; h11, the parser of record, splits them into start line and fields; what they mean is judged by target, framing
and fields. h11 is used for one head at a time and keeps no state between messages: where a message ends is ours to
decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from meshproxy.http.fast_lane import recognise_request, recognise_response
from meshproxy.http.fields import (
    OURS_IN_REQUESTS,
    OURS_IN_RESPONSES,
    TRACESTATE,
    carried,
    connection_options,
    expects_continue,
    keeps_alive,
    offered_upgrade,
    read_request_id,
    read_traceparent,
    takes_trailers,
    upgrade_value,
)
from meshproxy.http.framing import request_framing, response_framing
from meshproxy.http.guard import judge_head
from meshproxy.http.head import (
    BadMessage,
    FramingKind,
    HeadLimits,
    RequestFields,
    RequestHead,
    ResponseHead,
    Version,
)
from meshproxy.http.target import judge_host, parse_target
from meshproxy.http.trace_context import read_b3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.http.head import Field

USE_FAST_LANE: bool = True  # the benchmark turns it off, to run with and without side by side; nothing else does

_VERSIONS = {b"1.0": Version.HTTP_1_0, b"1.1": Version.HTTP_1_1}

# h11 reads a response only after a request, and a 101 only after an offer.
_ASKED = h11.Request(method="GET", target="/", headers=[("Host", "-"), ("Connection", "upgrade"), ("Upgrade", "-")])


def read_request_head(raw: bytes, limits: HeadLimits) -> RequestHead:
    """Read a whole request head, from its method to its blank line.

    Raises BadMessage with the status to answer: 400, 405, 414, 417, 431, 501 or 505.
    """
    recognised = recognise_request(raw, limits) if USE_FAST_LANE else None
    return recognised or parse_request_head(raw, limits)


def parse_request_head(raw: bytes, limits: HeadLimits) -> RequestHead:
    """As `read_request_head`, the long way."""
    judge_head(raw, limits)
    event = _event(h11.Connection(h11.SERVER), raw)
    if not isinstance(event, h11.Request):
        raise BadMessage(400, "not a request")
    version = _version(event.http_version)
    fields = _fields(event.headers.raw_items())
    target = parse_target(event.method, event.target)
    judge_host(event.target, target, version, fields)
    framing = request_framing(version, fields)
    options = connection_options(fields)
    traceparent = read_traceparent(fields)
    # W3C Trace Context section 3.3.1: the state belongs to the trace that came, and goes with it.
    ours = OURS_IN_REQUESTS if traceparent is not None else OURS_IN_REQUESTS | {TRACESTATE}
    text = carried(fields, ours, options)
    meaning = RequestFields(
        host=target.authority or next((value for name, value in fields if name.lower() == b"host"), None),
        carried=text,
        framing=framing,
        keep_alive=keeps_alive(version, options),
        expects_continue=expects_continue(version, framing, fields),
        upgrade=offered_upgrade(version, options, fields),
        takes_trailers=takes_trailers(fields),
        b3=read_b3(text),
    )
    return RequestHead(event.method, target, version, meaning, read_request_id(fields), traceparent)


def read_response_head(method: bytes, raw: bytes, limits: HeadLimits) -> ResponseHead:
    """Read a whole response head, interim or final, of the answer to a `method` request; raises BadMessage."""
    recognised = recognise_response(method, raw, limits) if USE_FAST_LANE else None
    return recognised or parse_response_head(method, raw, limits)


def parse_response_head(method: bytes, raw: bytes, limits: HeadLimits) -> ResponseHead:
    """As `read_response_head`, the long way."""
    judge_head(raw, limits)
    connection = h11.Connection(h11.CLIENT)
    connection.send(_ASKED)
    event = _event(connection, raw)
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise BadMessage(502, "not a response")
    # RFC 9110 section 15: the first digit defines the class, and there are five; h11 knows where they begin.
    if event.status_code > 599:
        raise BadMessage(502, f"status {event.status_code}")
    version = _version(event.http_version)
    fields = _fields(event.headers.raw_items())
    framing = response_framing(method, event.status_code, version, fields)
    options = connection_options(fields)
    return ResponseHead(
        status=event.status_code,
        reason=bytes(event.reason),
        version=version,
        carried=carried(fields, OURS_IN_RESPONSES, options),
        framing=framing,
        # RFC 9112 section 9.3: where the end of the body is that of the connection, nothing follows.
        keep_alive=keeps_alive(version, options) and framing.kind is not FramingKind.UNTIL_CLOSE,
        upgrade=upgrade_value(fields) if event.status_code == 101 else None,
    )


def _event(connection: h11.Connection, raw: bytes) -> object:
    connection.receive_data(raw)
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        raise BadMessage(error.error_status_hint, str(error)) from None


def _version(text: bytes) -> Version:
    """RFC 9112 section 2.3: the major version says how to read a message, and a minor one we do not know is a guess."""
    version = _VERSIONS.get(bytes(text))
    if version is None:
        raise BadMessage(505, f"version {text!r}")
    return version


def _fields(items: Iterable[tuple[bytes, bytes]]) -> tuple[Field, ...]:
    return tuple((bytes(name), bytes(value)) for name, value in items)
