"""Pictures of every page, to be looked at: empty, busy and broken, in both themes, on a desk and on a telephone.

    python -m tests.dashboard.screenshots DIRECTORY [STATE]...      # empty busy broken; all of them

Those in docs/screenshots are made of these: `map`, `heat-map`, `denials` and `phone-broken`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.telemetry.flows import Edge, Point
from meshproxy.telemetry.series import Marker
from tests.dashboard.acting import Line, Play, denial, shop
from tests.dashboard.browser import chromium
from tests.dashboard.stage import gathered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.dashboard.browser import Tab
    from tests.dashboard.stage import Stage

_PAGES: Final = ("map", "heat", "curves", "denials", "certificates", "connections", "audit")
_SIZES: Final = {"desk": (1280, 860), "phone": (390, 844)}
_SLOW_FOR: Final = 470  # seconds: where that began is to be seen in ten minutes
_SETTLED: Final = 2.0  # seconds, after which numbers have come and nothing fades any more


def empty() -> Play:
    """Sidecars that have only just been started."""
    now = time.time()
    play = Play([Line("/web", "/orders", 0), Line("/orders", "/ledger", 0)], now, past=0)
    for sidecar in play.sidecars.values():
        sidecar.series.latest = now
    return play


def busy() -> Play:
    """A shop in the afternoon, whose ledger has been slow for a while."""
    now = time.time()
    play = Play(shop(), now)
    play.live_through(now - _SLOW_FOR)
    play.line("/orders", "/ledger").seconds = 0.055
    for caller in ("/web", "/mobile"):
        play.line(caller, "/orders").seconds = 0.075
    play.line("/web", "/accounts").errors = 0.12
    play.sidecars["/orders"].series.mark(Marker(now - _SLOW_FOR - 40, "reload", "loaded orders.toml, generation 4"))
    play.sidecars["/ledger"].series.mark(Marker(now - 3.2 * 3600, "identity", "a new certificate, generation 7"))
    play.live_through(time.time())
    ledger, orders = play.sidecars["/ledger"], play.sidecars["/orders"]
    ledger.denials = [
        denial("/orders-qa", "/ledger", now=now - 2, count=214),
        denial("/reports", "/ledger", now=now - 1900),
    ]
    orders.denials = [denial("/mobile", "/orders", now=now - 70, count=3, path="/orders/4711")]
    ledger.rules = [
        {
            "name": "orders-charge",
            "from": ["/orders"],
            "methods": ["POST"],
            "paths": ["/charges"],
            "line": 3,
            "granted": 901,
        }
    ]
    ledger.connections = [
        {
            "id": f"c-{number}",
            "listener": "api",
            "peer": f"10.0.0.{7 + number}:4{number:04}",
            "principal": f"spiffe://shop.example{caller}",
            "rule": "orders-charge",
            "since": now - 60 * (number + 1) ** 3,
            "bytes_in": 9_000 * (number + 1) ** 4,
            "bytes_out": 70_000 * (number + 1) ** 4,
            "protocol": "http",
            "requests": 300 * (number + 1) ** 2,
        }
        for number, caller in enumerate(("/orders", "/payments", "/orders", "/reports"))
    ]
    ledger.records = [
        {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 13 * number)),
            "listener": "api",
            "caller": f"spiffe://shop.example{'/orders-qa' if number % 3 == 1 else '/orders'}",
            "id": f"c-{number}",
            "request_id": f"{number:032x}",
            "method": "POST",
            "path": "/charges",
            "decision": "deny" if number % 3 == 1 else "allow",
            "rule": "" if number % 3 == 1 else "orders-charge",
            "reason": "no_rule" if number % 3 == 1 else "granted",
            "mode": "enforce",
        }
        for number in range(9)
    ]
    return play


_STATES: Final[dict[str, Callable[[], Play]]] = {"empty": empty, "busy": busy, "broken": busy}


@asynccontextmanager
async def staged(state: str) -> AsyncIterator[Stage]:
    """A mesh in that state, served."""
    async with gathered(_STATES[state]()) as stage:
        stage.play.live_through(time.time())  # to be here has taken some seconds, too
        if state == "broken":
            await trio.sleep(3)
            stage.running["/catalog"].cancel()
            stock = stage.play.sidecars["/stock"]
            edge = Edge("destination", "/web", "/ledger", "api", "http")  # a call in which it has no part: it lies
            stock.series.take(time.time(), [(edge, Point(1))])
            stage.play.sidecars["/mailer"].state = "refusing"
            stage.play.sidecars["/mailer"].reason = "its own certificate expired"
            await trio.sleep(6)
        yield stage


async def look(tab: Tab, url: str, page: str, size: str, *, dark: bool) -> None:
    """Open a page and wait until it stands."""
    width, height = _SIZES[size]
    await tab.resize(width, height, dark=dark)
    await tab.open("about:blank")
    await tab.open(f"{url}/dashboard#/{page}")
    await tab.until("document.querySelector('#link')?.dataset.state === 'live'")
    await tab.until("!document.body.innerText.includes('Asking the sidecars')")
    await trio.sleep(_SETTLED)
    if page == "denials":
        await tab.ask("document.querySelector('.denials summary')?.click()")
    if size == "phone":  # all of it, as one scrolls
        await tab.resize(width, min(await tab.ask("document.documentElement.scrollHeight"), 3000), dark=dark)
        await trio.sleep(0.3)


async def shoot(directory: Path, states: list[str]) -> None:
    """Take all pictures."""
    await trio.Path(directory).mkdir(parents=True, exist_ok=True)
    for state in states:
        with tempfile.TemporaryDirectory() as profile:
            async with staged(state) as stage, chromium(Path(profile)) as browser:
                tab = await browser.tab()
                for size in _SIZES:
                    for dark in (False, True):
                        for page in _PAGES:
                            await look(tab, stage.url, page, size, dark=dark)
                            await tab.shoot(directory / f"{state}-{size}-{'dark' if dark else 'light'}-{page}.png")
                print(state, tab.complaints.console or "without complaints")


if __name__ == "__main__":
    trio.run(shoot, Path(sys.argv[1]), sys.argv[2:] or list(_STATES))
