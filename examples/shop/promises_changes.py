"""What changes while everything runs: allow-lists, certificates, modes, and the end of a sidecar; nobody else notices.

By now one orders is dead: the second serves.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from examples.shop.caller import ask_tcp, ask_unix, request
from examples.shop.load import steady_load
from examples.shop.processes import StageError
from examples.shop.promise import Evidence, Group, Promise, Seen, booked, spiffe_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.shop.load import Load
    from examples.shop.processes import LogLine
    from examples.shop.stage import Stage

_LIST: Final = "ledger.allow.toml"
_ON_IT, _BOTH_ON_IT, _MISSPELT = 'from = "/orders"', 'from = ["/orders", "/orders-qa"]', 'form = "/orders"'
_ENOUGH: Final = 100  # requests of a load before and after what is tried
_PATIENCE: Final = 10.0  # seconds: a sidecar looks at its files every second, and waits until they rest


async def _added(stage: Stage) -> Seen:
    before = await _charge_as_stranger(stage, "before")
    _edit(stage, _LIST, _ON_IT, _BOTH_ON_IT)
    edited = trio.current_time()
    reloaded = await _told(stage, "ledger", event="reloaded")
    seconds = trio.current_time() - edited
    after = await _charge_as_stranger(stage, "after")
    return Seen(
        before != "201" == after and reloaded["generation"] == "2",
        f"{before}; {seconds:.1f} s after saving the file: {after}",
    )


async def _removed(stage: Stage) -> Seen:
    async with await trio.open_tcp_stream("127.0.0.1", stage.port(7001)) as live:
        await live.send_all(b"POST /charges HTTP/1.1\r\n")  # a request that is never finished
        _edit(stage, _LIST, _BOTH_ON_IT, _ON_IT)
        reloaded = await _told(stage, "ledger", event="reloaded")
        ended = "it goes ON"
        with trio.move_on_after(1.0):
            try:
                ended = "A CLEAN END" if not await live.receive_some(1) else "AN ANSWER"
            except trio.BrokenResourceError:
                ended = "cut"
    cut = await stage.log("ledger").line(event="connection", end="denied", caller=spiffe_id("/orders-qa"))
    after = await _charge_as_stranger(stage, "removed")
    is_booked, _ = booked(stage, await stage.buy("lamp", 1))
    return Seen(
        ended == "cut" and bool(reloaded) and cut["decision"] == "allow" and after != "201" and is_booked,
        f"{ended}; new ones: {after}; orders {'is served on' if is_booked else 'is CUT OFF TOO'}",
        (Evidence("ledger", cut),),
    )


async def _broken(stage: Stage) -> Seen:
    _edit(stage, _LIST, _ON_IT, _MISSPELT)
    failed = await _told(stage, "ledger", event="reload_failed")
    is_booked, _ = booked(stage, await stage.buy("teapot", 1))
    _edit(stage, _LIST, _MISSPELT, _ON_IT)
    kept = failed["kept_generation"]
    return Seen(
        is_booked and kept == "3" and f"{_LIST}:" in failed["error"],
        f"generation {kept} stays; an order {'goes through' if is_booked else 'FAILS'}",
        (Evidence("ledger", failed),),
    )


async def _renewed(stage: Stage) -> Seen:
    async with _load(stage) as load:
        await load.grow(_ENOUGH)
        for name in ("web", "orders-2"):
            await stage.renew(name)
            await _told(stage, name, event="identity_loaded")
            await load.grow(_ENOUGH)
    serials = [stage.log(name).path.read_text().count('"identity_loaded"') for name in ("web", "orders-2")]
    return Seen(not load.failures and load.served > _ENOUGH and serials == [2, 2], load.words)


async def _audited(stage: Stage) -> Seen:
    _edit(stage, "orders-2.toml", 'protocol = "http"', 'protocol = "http"\nmode = "audit"')
    answer = await ask_unix(stage.admin("orders-2"), request("POST", "/reload"))
    asked = await ask_unix(stage.web_to_orders, request("GET", "/refunds"))
    told = await stage.log("orders-2").line(event="would_deny")
    return Seen(
        answer.fields.get("result") == "loaded"
        and asked.status == 404
        and stage.has_reached("orders-2", "GET /refunds")
        and told["reason"] == "path",
        f"orders says {asked.status}, the log: would_deny",
        (Evidence("orders-2", told),),
    )


async def _terminated(stage: Stage) -> Seen:
    async with _load(stage) as load:
        await load.grow(_ENOUGH)
        load.leaving = True
        code = await stage.end("web")
    return Seen(
        not load.failures and load.served > _ENOUGH and load.told_to_close > 0 and code == 0,
        f"{load.words}; exit code {code}",
    )


@asynccontextmanager
async def _load(stage: Stage) -> AsyncIterator[Load]:
    """Web's customers, so to say: each asks orders again and again who it is."""
    async with steady_load(stage.web_to_orders, "/orders/whoami", {"caller": spiffe_id("/web")}) as load:
        yield load


def _edit(stage: Stage, file: str, old: str, new: str) -> None:
    """Replace some text of a file, in place, as an editor does."""
    path = stage.directory / file
    text = path.read_text()
    if old not in text:
        raise StageError(f"{file} has no {old}")
    path.write_text(text.replace(old, new, 1))


async def _told(stage: Stage, sidecar: str, **wanted: str) -> LogLine:
    """Wait longer than usual for a line: what is told comes after a look at the files."""
    deadline = trio.current_time() + _PATIENCE
    while not (line := await stage.log(sidecar).line(**wanted)) and trio.current_time() < deadline:
        pass
    return line


async def _charge_as_stranger(stage: Stage, reference: str) -> str:
    """Try to charge an account as /orders-qa; the status, or why there is none."""
    fields = {"account": "orders-qa", "reference": f"changes-{reference}", "cents": 1}
    answer = await ask_tcp(stage.port(7001), request("POST", "/charges", fields))
    return str(answer.status) if answer.status else "refused"


CHANGES: Final = (
    Promise(Group.CHANGES, "added", "/orders-qa put on the list", "let in", _added),
    Promise(Group.CHANGES, "removed", "taken off while connected", "cut, only that", _removed),
    Promise(Group.CHANGES, "broken_edit", "a misspelt allow-list", "nothing changes", _broken),
    Promise(Group.CHANGES, "renewed", "new certificates under load", "0 failed", _renewed),
    Promise(Group.CHANGES, "audit", "GET /refunds in audit mode", "passed, and told", _audited),
    Promise(Group.CHANGES, "sigterm", "SIGTERM to web under load", "0 failed, exit 0", _terminated),
)
