"""The nine promises of the demo: each is tried on the stage, and what was seen is said from what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from examples.shop.caller import Answer, ask_tcp, ask_tls, ask_unix, request
from examples.shop.stage import EXPIRED, FOREIGN, TRUST_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from examples.shop.processes import LogLine
    from examples.shop.stage import Stage

_EXPORT: Final = request("GET", "/orders", {})


@dataclass(frozen=True, slots=True)
class Evidence:
    """A line of a sidecar's log that explains what was seen."""

    sidecar: str
    line: LogLine


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a try: whether the promise was kept, what happened in words, and what the sidecars said."""

    kept: bool
    words: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def told(self) -> tuple[Evidence, ...]:
        """The evidence that there is: a line that was waited for in vain is none."""
        return tuple(each for each in self.evidence if each.line)


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: what is tried, what is expected, and how to try it."""

    name: str
    tried: str
    expected: str
    show: Callable[[Stage], Awaitable[Seen]]


async def _allowed(stage: Stage) -> Seen:
    answer = await _buy(stage, "lamp", 2)
    at_orders = await stage.log("orders").line(event="connection", direction="inbound")
    at_ledger = await stage.log("ledger").line(event="connection", direction="inbound")
    booked, words = _booked(stage, answer)
    callers = [(line["caller"], line["decision"], line["end"]) for line in (at_orders, at_ledger)]
    return Seen(
        booked and callers == [(_id("/web"), "allow", "clean"), (_id("/orders"), "allow", "clean")],
        f"{words}; by rules {at_orders['rule']}, {at_ledger['rule']}",
    )


async def _not_on_the_list(stage: Stage) -> Seen:
    answer = await ask_tcp(stage.port(7001), _charge("orders-qa"))
    denied = await stage.log("ledger").line(event="denied")
    caller_side = await stage.log("stranger").line(event="connection")
    return Seen(
        _kept_out(stage, answer, "orders-qa")
        and denied["caller"] == _id("/orders-qa")
        and caller_side["end"] == "refused",
        f"{_as_received(answer)}; its own sidecar logs: {caller_side['end']}",
        (Evidence("ledger", denied),),
    )


async def _no_certificate(stage: Stage) -> Seen:
    return await _without_sidecar(stage, None, reason="no_certificate")


async def _foreign_ca(stage: Stage) -> Seen:
    return await _without_sidecar(stage, stage.identity(FOREIGN), reason="unknown_ca")


async def _expired(stage: Stage) -> Seen:
    return await _without_sidecar(stage, stage.identity(EXPIRED), reason="expired")


async def _without_sidecar(stage: Stage, identity: Path | None, *, reason: str) -> Seen:
    answer = await ask_tls(stage.port(8443), _charge(reason), roots=stage.roots, identity=identity)
    failed = await stage.log("ledger").line(event="handshake_failed")
    return Seen(
        _kept_out(stage, answer, reason) and failed["reason"] == reason,
        _as_received(answer),
        (Evidence("ledger", failed),),
    )


async def _wrong_server(stage: Stage) -> Seen:
    answer = await ask_tcp(stage.port(7002), _charge("impostor"))
    failed = await stage.log("faults").line(event="upstream_failed", listener="impostor")
    ended = await stage.log("faults").line(event="connection", listener="impostor")
    sent = int(ended["bytes_in"] or 0)
    reached_orders = "/charges" in stage.processes.logs["orders-2.service"].path.read_text()
    return Seen(
        answer.error != ""
        and not answer.data
        and (failed["phase"], ended["end"], sent) == ("identity", "failed", 0)
        and not reached_orders,
        f"{answer.error or 'a clean end'}, {sent} bytes sent{', SOME ARRIVED' if reached_orders else ''}",
        (Evidence("faults", failed),),
    )


async def _takeover(stage: Stage) -> Seen:
    stage.kill("orders")
    answer = await _buy(stage, "chair", 1)
    failed = await stage.log("web").line(event="upstream_failed")
    used = await stage.log("web").line(event="connection")
    booked, words = _booked(stage, answer)
    return Seen(
        booked
        and failed["endpoint"] == f"127.0.0.1:{stage.port(8441)}"
        and used["upstream"] == f"127.0.0.1:{stage.port(8442)}",
        f"{_port(failed['endpoint'])} {failed['detail'].lower()}, {_port(used['upstream'])} took over; {words}",
    )


async def _flipped(stage: Stage) -> Seen:
    return await _over_bad_wire(stage, "flipped", port=7003, end="corrupt")


async def _cut(stage: Stage) -> Seen:
    return await _over_bad_wire(stage, "cut", port=7004, end="truncated")


async def _over_bad_wire(stage: Stage, listener: str, *, port: int, end: str) -> Seen:
    whole = await ask_unix(stage.directory / "run/web-to-orders.sock", _EXPORT)
    answer = await ask_tcp(stage.port(port), _EXPORT)
    line = await stage.log("faults").line(event="connection", listener=listener)
    unaltered = whole.body.startswith(answer.body)
    return Seen(
        not whole.error
        and unaltered
        and len(answer.body) < len(whole.body)
        and answer.error != ""
        and line["end"] == end,
        f"{len(answer.body):,} of {len(whole.body):,} bytes, {'none' if unaltered else 'SOME'} altered, then "
        f"{answer.error or 'a clean end'}",
        (Evidence("faults", line),),
    )


PROMISES: Final = (
    Promise("allowed", "an order through all three", "in both databases", _allowed),
    Promise("not_on_the_list", "/orders-qa calls the ledger", "refused: on no list", _not_on_the_list),
    Promise("no_certificate", "no certificate", "no handshake", _no_certificate),
    Promise("foreign_ca", "the same names, foreign CA", "no handshake", _foreign_ca),
    Promise("expired", "/orders, but expired", "no handshake", _expired),
    Promise("wrong_server", "orders answers as the ledger", "not a byte sent", _wrong_server),
    Promise("takeover", "an order, one orders killed", "the second takes over", _takeover),
    Promise("flipped_byte", "a byte flipped on the wire", "error, nothing altered", _flipped),
    Promise("truncated", "the wire cut by a bare FIN", "error, not a clean end", _cut),
)


def _id(path: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}{path}"


def _port(address: str) -> str:
    return address[address.rfind(":") :]


async def _buy(stage: Stage, item: str, quantity: int) -> Answer:
    fields = {"customer": "ada", "item": item, "quantity": quantity}
    return await ask_unix(stage.directory / "run/web.sock", request("POST", "/buy", fields))


def _booked(stage: Stage, answer: Answer) -> tuple[bool, str]:
    """Whether the order in the answer is in both databases with the same amount, and how it stands in words."""
    number = answer.fields.get("order")
    if not isinstance(number, int):
        return False, f"no order: {answer.error or answer.data[:200]!r}"
    order = stage.look_up("orders", "SELECT state, cents FROM orders WHERE number = ?", number)
    charge = stage.look_up("ledger", "SELECT cents FROM charges WHERE reference = ?", f"order-{number}")
    if order is None or charge is None:
        return False, f"order {number}: {order} in orders.db, {charge} in ledger.db"
    state, cents = order
    same = (state, cents) == ("charged", charge[0])
    return same, f"order {number}: {cents} cents{' in both' if same else f' ({state}), {charge[0]} in the ledger'}"


def _charge(account: str) -> bytes:
    """What those who must not get in try: to charge an account, of a name of their own each."""
    return request("POST", "/charges", {"account": account, "reference": account, "cents": 1})


def _kept_out(stage: Stage, answer: Answer, account: str) -> bool:
    """Whether the caller got an error and no byte, and the ledger no charge of it."""
    booked = stage.look_up("ledger", "SELECT 1 FROM charges WHERE account = ?", account)
    return answer.error != "" and not answer.data and booked is None


def _as_received(answer: Answer) -> str:
    return f"{answer.error or 'a clean end'}, {len(answer.data)} bytes"
