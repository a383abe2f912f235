"""Who gets in: the callers that must, the callers that must not, and the far end that is somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from examples.shop.caller import ask_tcp, ask_tls, request
from examples.shop.promise import Evidence, Group, Promise, Seen, booked, spiffe_id
from examples.shop.stage import EXPIRED, FOREIGN

if TYPE_CHECKING:
    from pathlib import Path

    from examples.shop.caller import Answer
    from examples.shop.stage import Stage


async def _allowed(stage: Stage) -> Seen:
    answer = await stage.buy("lamp", 2)
    at_orders = await stage.log("orders").line(event="request", direction="inbound")
    at_ledger = await stage.log("ledger").line(event="connection", direction="inbound")
    is_booked, words = booked(stage, answer)
    callers = [(line["caller"], line["decision"]) for line in (at_orders, at_ledger)]
    return Seen(
        is_booked
        and callers == [(spiffe_id("/web"), "allow"), (spiffe_id("/orders"), "allow")]
        and (at_orders["status"], at_ledger["end"]) == ("201", "clean"),
        words,
    )


async def _not_on_the_list(stage: Stage) -> Seen:
    answer = await ask_tcp(stage.port(7001), _charge("orders-qa"))
    denied = await stage.log("ledger").line(event="denied")
    caller_side = await stage.log("stranger").line(event="connection")
    return Seen(
        _kept_out(stage, answer, "orders-qa")
        and denied["caller"] == spiffe_id("/orders-qa")
        and caller_side["end"] == "refused",
        f"{answer.error or 'a clean end'}; it logs: {caller_side['end']}",
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
    reached_orders = "/charges" in stage.service_log("orders-2")
    return Seen(
        answer.error != ""
        and not answer.data
        and (failed["phase"], ended["end"], sent) == ("identity", "failed", 0)
        and not reached_orders,
        f"{answer.error or 'a clean end'}, {sent} bytes sent{', SOME ARRIVED' if reached_orders else ''}",
        (Evidence("faults", failed),),
    )


def _charge(account: str) -> bytes:
    """What those who must not get in try: to charge an account, of a name of their own each."""
    return request("POST", "/charges", {"account": account, "reference": account, "cents": 1})


def _kept_out(stage: Stage, answer: Answer, account: str) -> bool:
    """Whether the caller got an error and no byte, and the ledger no charge of it."""
    charge = stage.look_up("ledger", "SELECT 1 FROM charges WHERE account = ?", account)
    return answer.error != "" and not answer.data and charge is None


def _as_received(answer: Answer) -> str:
    return f"{answer.error or 'a clean end'}, {len(answer.data)} bytes"


IDENTITY: Final = (
    Promise(Group.IDENTITY, "allowed", "an order through all three", "in both databases", _allowed),
    Promise(Group.IDENTITY, "not_on_the_list", "/orders-qa calls the ledger", "refused", _not_on_the_list),
    Promise(Group.IDENTITY, "no_certificate", "no certificate", "no handshake", _no_certificate),
    Promise(Group.IDENTITY, "foreign_ca", "the same names, foreign CA", "no handshake", _foreign_ca),
    Promise(Group.IDENTITY, "expired", "/orders, but expired", "no handshake", _expired),
    Promise(Group.IDENTITY, "wrong_server", "orders answers as ledger", "not a byte sent", _wrong_server),
)
