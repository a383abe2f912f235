"""What may be asked: web calls orders in HTTP mode, and each request is judged by caller, method and path.

What a sidecar in front of the caller would refuse already is sent without one, with web's own certificate.
"""

from __future__ import annotations

import os
import zlib
from itertools import repeat
from typing import TYPE_CHECKING, Final

import trio

from examples.shop.caller import ask_tls, ask_unix, request, talk, upload
from examples.shop.promise import Evidence, Group, Promise, Seen, spiffe_id

if TYPE_CHECKING:
    from examples.shop.caller import Answer
    from examples.shop.processes import LogLine
    from examples.shop.stage import Stage

_TRICKS: Final = ("/orders/..%2frefunds", "/orders/../refunds", "//refunds")
_GREETING: Final = "is anybody there?"
_MIB: Final = 1024 * 1024
_TRIAL, _SHORT, _LONG = 32 * _MIB, 256 * _MIB, 1024 * _MIB
_AT_MOST: Final = 6.0  # seconds for the long upload; where it would take longer, the short one is shown
_FLAT: Final = 8 * _MIB  # what may be added to a sidecar's peak memory while it carries any amount


async def _method(stage: Stage) -> Seen:
    return await _refused(stage, "DELETE", "/orders/1", reason="method")


async def _path(stage: Stage) -> Seen:
    return await _refused(stage, "GET", "/refunds", reason="path")


async def _refused(stage: Stage, method: str, path: str, *, reason: str) -> Seen:
    answer = await ask_unix(stage.web_to_orders, request(method, path))
    denied = await stage.log("orders").line(event="denied", method=method, path=path)
    line = await stage.log("orders").line(event="request", method=method, path=path)
    return Seen(
        _is_denial(answer, line) and line["reason"] == reason and not stage.has_reached("orders", f"{method} {path}"),
        f"{answer.status}; the log says why: {line['reason']}",
        (Evidence("orders", denied),),
    )


def _is_denial(answer: Answer, line: LogLine) -> bool:
    """Whether the caller was told that it may not, with the id that leads to this line of the sidecar's log."""
    return (
        answer.status == 403
        and answer.head.get("content-type") == "application/problem+json"
        and answer.fields.get("request_id") == line["request_id"] != ""
        and line["decision"] == "deny"
    )


async def _tricks(stage: Stage) -> Seen:
    answers = [await _without_sidecar(stage, request("GET", target)) for target in _TRICKS]
    reached = stage.has_reached("orders", "refunds")
    return Seen(
        [answer.status for answer in answers] == [400] * len(_TRICKS) and not reached,
        f"{', '.join(str(answer.status or answer.error) for answer in answers)};"
        f" {'SOME' if reached else 'none'} reached orders",
    )


async def _spoofed(stage: Stage) -> Seen:
    claimed = dict.fromkeys(("x-mesh-client-id", "X_Mesh_Client_Id"), spiffe_id("/ledger"))
    answer = await _without_sidecar(stage, request("GET", "/orders/whoami", more=claimed))
    caller = answer.fields.get("caller")
    return Seen(caller == spiffe_id("/web"), f"orders is told {caller}")


async def _query(stage: Stage) -> Seen:
    secret = os.urandom(8).hex()
    answer = await ask_unix(stage.web_to_orders, request("GET", f"/orders/whoami?token={secret}"))
    told = {"event": "request", "request_id": answer.head.get("x-request-id", "")}  # of the one before may come late
    line = await stage.log("orders").line(**told)
    await stage.log("web").line(**told)
    reached, sidecars = stage.has_reached("orders", secret), stage.sidecars_that_logged(secret)
    return Seen(
        answer.status == 200 and line["path"] == "/orders/whoami" and reached and not sidecars,
        f"{answer.status} by {line['rule']}; {'at' if reached else 'NOT at'} orders, in {len(sidecars)} of our logs",
    )


async def _traced(stage: Stage) -> Seen:
    trace_id = os.urandom(16).hex()
    asked = {"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"}
    order = {"customer": "tracy", "item": "teapot"}
    answer = await ask_unix(stage.directory / "run/web.sock", request("POST", "/buy", order, more=asked))
    spans = await stage.collector.trace(trace_id, spans=4)
    way = [f"{span.service} {span.kind}" for span in spans]
    return Seen(
        answer.status == 201 and way == ["web server", "web client", "orders server", "orders client"],
        f"{answer.status}; {' > '.join(way) or 'NO SPANS'}",
    )


async def _websocket(stage: Stage) -> Seen:
    answer, heard = await talk(stage.web_to_orders, "/orders/talk", _GREETING)
    line = await stage.log("orders").line(event="request", path="/orders/talk")
    return Seen(
        (answer.status, line["rule"], line["end"]) == (101, "web-reads", "clean") and _GREETING in heard,
        f"{answer.status}, {heard!r}",
    )


async def _websocket_refused(stage: Stage) -> Seen:
    answer, heard = await talk(stage.web_to_orders, "/admin/talk", _GREETING)
    line = await stage.log("orders").line(event="request", path="/admin/talk")
    reached = stage.has_reached("orders", "/admin")
    return Seen(
        _is_denial(answer, line) and not heard and not reached,
        f"{answer.status}, {'REACHED' if reached else 'nothing reached'} orders",
    )


async def _upload(stage: Stage) -> Seen:
    grown = stage.watch_memory("web", "orders")
    _, seconds = await _timed_upload(stage, _TRIAL)
    size = _LONG if seconds * _LONG / _TRIAL < _AT_MOST else _SHORT
    arrived, seconds = await _timed_upload(stage, size)
    growth = grown()
    told = [f"{bytes_grown / _MIB:+.1f}" for bytes_grown in growth]
    return Seen(
        arrived and all(bytes_grown < _FLAT for bytes_grown in growth),
        f"{'1 GiB' if size == _LONG else '256 MiB'} in {seconds:.1f} s{'' if arrived else ', NOT AS SENT'}; "
        + (f"sidecars' peak {', '.join(told)} MiB" if told else "memory not measured here")
        + ("" if size == _LONG else " (1 GiB is too slow here)"),
    )


async def _timed_upload(stage: Stage, size: int) -> tuple[bool, float]:
    """Whether all of `size` bytes arrived as they were sent, and how many seconds they took."""
    block = os.urandom(_MIB)
    checksum = 0
    for _ in range(size // _MIB):
        checksum = zlib.crc32(block, checksum)
    begun = trio.current_time()
    answer = await upload(stage.web_to_orders, "/orders/import", repeat(block, size // _MIB), length=size)
    return answer.fields == {"bytes": size, "crc32": checksum}, trio.current_time() - begun


async def _killed(stage: Stage) -> Seen:
    answer = await ask_unix(
        stage.web_to_orders, request("GET", "/orders/new"), once_begun=lambda: stage.kill_service("orders")
    )
    line = await stage.log("orders").line(event="request", direction="inbound", path="/orders/new")
    return Seen(
        answer.status == 200
        and len(answer.body) > 0
        and answer.error != ""
        and (line["status"], line["failure"]) == ("200", "response_truncated"),
        f"{answer.status} and {len(answer.body)} bytes; {answer.error or 'IT LOOKS COMPLETE'}",
        (Evidence("orders", line),),
    )


async def _without_sidecar(stage: Stage, sent: bytes) -> Answer:
    return await ask_tls(stage.port(8441), sent, roots=stage.roots, identity=stage.identity("web"))


HTTP: Final = (
    Promise(Group.HTTP, "wrong_method", "DELETE /orders/1", "403", _method),
    Promise(Group.HTTP, "wrong_path", "GET /refunds", "403", _path),
    Promise(Group.HTTP, "path_tricks", "paths with ..%2f, /../, //", "400, no rule asked", _tricks),
    Promise(Group.HTTP, "spoofed_identity", "web claims to be the ledger", "the true caller", _spoofed),
    Promise(Group.HTTP, "query", "GET with ?token=secret", "granted, unlogged", _query),
    Promise(Group.HTTP, "traced", "a customer's traced order", "a trace of it", _traced),
    Promise(Group.HTTP, "websocket", "a WebSocket", "it talks", _websocket),
    Promise(Group.HTTP, "websocket_refused", "a WebSocket to /admin/talk", "403, no switch", _websocket_refused),
    Promise(Group.HTTP, "upload", "a large upload", "flat memory", _upload),
    Promise(Group.HTTP, "killed", "orders killed mid-answer", "an error", _killed),
)
