"""What an exchange says as spans: a SERVER span for the request, a CLIENT span for each attempt at an upstream.

Names and attributes are those of OpenTelemetry's HTTP conventions (semconv 1.2x, "HTTP spans"). A name never has a path
in it: it is the method and the rule that granted, or the listener. `url.query` is left out on purpose, and so is the
query of `url.full`: it may hold secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.errors import Failure
from meshproxy.telemetry.text import printable
from meshproxy.tracing.otlp import Kind, Span
from meshproxy.wire.address import TcpAddress, parse_address

if TYPE_CHECKING:
    from meshproxy.http.exchange import Exchange
    from meshproxy.http.head import RequestHead
    from meshproxy.http.trace_context import FailedTry, Trace

_KNOWN_METHODS: Final = frozenset(
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"]
)
_OTHER: Final = "_OTHER"
_LONGEST_PATH: Final = 1024
_LONGEST_AGENT: Final = 256
_USER_AGENT: Final = re.compile(rb"\r\nuser-agent: ([^\r]*+)", re.IGNORECASE)

# Not an error of ours or of the service: whoever asked does not want to know any more.
_NOBODYS_FAULT: Final = frozenset({Failure.CLIENT_GONE})

Said = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an exchange took place: the listener, who connected, and what its upstream is (empty: none was reached)."""

    listener: str
    direction: str
    peer: str
    caller: str
    upstream: str = ""
    upstream_id: str = ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The same moment by the wall (nanoseconds since 1970) and by the clock of exchanges (seconds)."""

    wall: int
    exchange: float

    def at(self, moment: float) -> int:
        """Return a moment of the exchange by the wall."""
        return self.wall - int((self.exchange - moment) * 1e9)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled exchange that is over, with its parts that are there for certain."""

    exchange: Exchange
    trace: Trace
    head: RequestHead
    scene: Scene
    clocks: Clocks


def spans_of(sampled: Sampled) -> list[Span]:
    """Return its spans: of the request first, then of the attempts in order."""
    made = [_server_span(sampled)]
    made += [_failed_span(sampled, failed, number) for number, failed in enumerate(sampled.trace.failed)]
    if sampled.exchange.upstream_asked and sampled.scene.upstream:
        made.append(_client_span(sampled))
    return made


def _server_span(sampled: Sampled) -> Span:
    exchange, trace, head = sampled.exchange, sampled.trace, sampled.head
    scene, clocks = sampled.scene, sampled.clocks
    decided = exchange.decided
    said = {
        **_asked(head),
        "url.path": _path(head),
        "url.scheme": "https" if scene.direction == "inbound" else "http",
        **_of_address(scene.peer, "network.peer"),
        **_of_address(scene.peer, "client"),
        **_of_host(head),
        "meshproxy.listener": scene.listener,
        "meshproxy.direction": scene.direction,
        "meshproxy.request_id": exchange.request_id.decode("latin-1"),
    }
    agent = _USER_AGENT.search(head.fields.carried)
    if agent is not None:
        said["user_agent.original"] = printable(agent[1].decode("latin-1")[:_LONGEST_AGENT])
    if scene.caller:
        said["meshproxy.caller"] = scene.caller
    if decided is not None:
        said |= {"meshproxy.decision": decided.decision, "meshproxy.reason": decided.reason}
        said |= {"meshproxy.rule": decided.rule} if decided.rule else {}
    is_error = _tell_outcome(said, exchange, errors_from=500)
    return Span(
        trace_id=trace.trace_id.decode(),
        span_id=trace.span_id.decode(),
        parent_id=trace.parent_id.decode(),
        name=_name(head, decided.rule if decided is not None and decided.rule else scene.listener),
        kind=Kind.SERVER,
        began=clocks.at(exchange.started),
        ended=clocks.at(exchange.ended),
        attributes=said,
        is_error=is_error,
        state=trace.state.decode("latin-1"),
        parent_is_remote=bool(trace.parent_id),
    )


def _client_span(sampled: Sampled) -> Span:
    exchange, trace, head = sampled.exchange, sampled.trace, sampled.head
    scene, clocks = sampled.scene, sampled.clocks
    said = _of_attempt(head, scene, scene.upstream, len(trace.failed))
    if scene.upstream_id:
        said["meshproxy.upstream_id"] = scene.upstream_id
    is_error = _tell_outcome(said, exchange, errors_from=400)
    if not exchange.answered or (exchange.failure is not None and exchange.failure.status == exchange.status):
        said.pop("http.response.status_code", None)  # what the caller was told is ours, not the upstream's
    return Span(
        trace_id=trace.trace_id.decode(),
        span_id=trace.attempt_id.decode(),
        parent_id=trace.span_id.decode(),
        name=_name(head, scene.listener),
        kind=Kind.CLIENT,
        began=clocks.at(trace.attempt_began or exchange.upstream_asked),
        ended=clocks.at(exchange.ended),
        attributes=said,
        is_error=is_error,
        state=trace.state.decode("latin-1"),
    )


def _failed_span(sampled: Sampled, failed: FailedTry, number: int) -> Span:
    trace, head, scene, clocks = sampled.trace, sampled.head, sampled.scene, sampled.clocks
    said = _of_attempt(head, scene, failed.target, number)
    said |= {"error.type": failed.why, "meshproxy.detail": printable(failed.detail)}
    return Span(
        trace_id=trace.trace_id.decode(),
        span_id=failed.span_id.decode(),
        parent_id=trace.span_id.decode(),
        name=_name(head, scene.listener),
        kind=Kind.CLIENT,
        began=clocks.at(failed.began),
        ended=clocks.at(failed.ended),
        attributes=said,
        is_error=True,
        state=trace.state.decode("latin-1"),
    )


def _of_attempt(head: RequestHead, scene: Scene, target: str, before: int) -> Said:
    scheme = "http" if scene.direction == "inbound" else "https"
    said = {**_asked(head), "meshproxy.listener": scene.listener}
    if target:
        where = "localhost" if target.startswith("unix:") else target
        said |= {**_of_address(target, "server"), "url.full": f"{scheme}://{where}{_path(head)}"}
    if before:
        said["http.request.resend_count"] = before
    return said


def _tell_outcome(said: Said, exchange: Exchange, *, errors_from: int) -> bool:
    """Say how it ended; whether that is an error."""
    status, failure = exchange.status, exchange.failure
    if status:
        said["http.response.status_code"] = status
    if failure is not None:
        said["error.type"] = failure.word
        if exchange.detail:
            said["meshproxy.detail"] = printable(exchange.detail)
        # Of a refusal (4xx) the caller is the cause.
        return failure not in _NOBODYS_FAULT and (failure.status >= errors_from or not status)
    if status >= errors_from:
        said["error.type"] = str(status)
        return True
    return False


def _asked(head: RequestHead) -> Said:
    method = head.method.decode("latin-1")
    known: Said = {"network.protocol.name": "http", "network.protocol.version": head.version.value[5:].decode()}
    if method in _KNOWN_METHODS:
        return {"http.request.method": method, **known}
    return {"http.request.method": _OTHER, "http.request.method_original": printable(method), **known}


def _name(head: RequestHead, target: str) -> str:
    method = head.method.decode("latin-1")
    return f"{method if method in _KNOWN_METHODS else 'HTTP'} {target}"


def _path(head: RequestHead) -> str:
    return head.target.path[:_LONGEST_PATH].decode("latin-1")


def _of_host(head: RequestHead) -> Said:
    if head.fields.host is None:
        return {}
    host = head.fields.host.decode("latin-1")
    return _of_address(host, "server") or {"server.address": printable(host)}


def _of_address(text: str, prefix: str) -> Said:
    """Return address and port, as far as there are any."""
    try:
        address = parse_address(text)
    except ValueError:
        return {}
    if isinstance(address, TcpAddress):
        return {f"{prefix}.address": address.host, f"{prefix}.port": address.port}
    return {f"{prefix}.address": address.path} if address.path else {}
