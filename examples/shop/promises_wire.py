"""When machines and cables fail: another machine takes over, and what was harmed is never passed off as whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from examples.shop.caller import ask_tcp, ask_unix, request
from examples.shop.promise import Evidence, Group, Promise, Seen, booked

if TYPE_CHECKING:
    from examples.shop.stage import Stage

_EXPORT: Final = request("GET", "/orders")


async def _takeover(stage: Stage) -> Seen:
    stage.kill("orders")
    answer = await stage.buy("chair", 1)
    failed = await stage.log("web").line(event="upstream_failed")
    used = await stage.log("web").line(event="request")
    is_booked, words = booked(stage, answer)
    return Seen(
        is_booked
        and failed["endpoint"] == f"127.0.0.1:{stage.port(8441)}"
        and used["upstream"] == f"127.0.0.1:{stage.port(8442)}",
        f"{_port(failed['endpoint'])} {failed['detail'].lower()}, {_port(used['upstream'])} took over; {words}",
    )


def _port(address: str) -> str:
    return address[address.rfind(":") :]


async def _flipped(stage: Stage) -> Seen:
    return await _over_bad_wire(stage, "flipped", port=7003, end="corrupt")


async def _cut(stage: Stage) -> Seen:
    return await _over_bad_wire(stage, "cut", port=7004, end="truncated")


async def _over_bad_wire(stage: Stage, listener: str, *, port: int, end: str) -> Seen:
    whole = await ask_unix(stage.web_to_orders, _EXPORT)
    answer = await ask_tcp(stage.port(port), _EXPORT)
    line = await stage.log("faults").line(event="connection", listener=listener)
    unaltered = whole.body.startswith(answer.body)
    return Seen(
        not whole.error
        and unaltered
        and 0 < len(answer.body) < len(whole.body)
        and answer.error != ""
        and line["end"] == end,
        f"{len(answer.body):,} of {len(whole.body):,} bytes, {'none' if unaltered else 'SOME'} altered, then "
        f"{answer.error or 'a clean end'}",
        (Evidence("faults", line),),
    )


WIRE: Final = (
    Promise(Group.WIRE, "takeover", "an order, one orders killed", "the second serves", _takeover),
    Promise(Group.WIRE, "flipped_byte", "a byte flipped on the wire", "error, unaltered", _flipped),
    Promise(Group.WIRE, "truncated", "the wire cut by a bare FIN", "no clean end", _cut),
)
