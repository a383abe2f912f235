"""`make demo ARGS=--keep`: the shop goes on, with customers and who should not be, and a dashboard to watch it by."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from examples.shop.caller import ask_tcp, ask_unix, request
from examples.shop.performing import until_stopped
from examples.shop.processes import StageError
from examples.shop.stage import SIDECARS, Stage, open_stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PORT: Final = 9800
_PATIENCE: Final = 20.0
_LOOK_EVERY: Final = 0.05
_ITEMS: Final = ("lamp", "teapot", "chair", "clock")


async def keep(stopped: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Set the shop up anew, watch it, and let customers come until a signal. Raises StageError."""

    async def on_stage() -> None:
        with open_stage() as stage:
            await stage.mint()
            async with trio.open_nursery() as nursery:
                await stage.start(nursery)
                url = await _watch(stage)
                say(f"{url}  shows the shop, live. Ctrl-C ends it.")
                await _trade(stage)

    await until_stopped(on_stage, stopped)


async def _watch(stage: Stage) -> str:
    """Start the dashboard of all sidecars; returns where it is once it answers."""
    roll = trio.Path(stage.directory / "mesh.toml")
    await roll.write_bytes(b"sidecars = " + msgspec.json.encode(list(SIDECARS.values())))  # a list of TOML too
    port = _free_port()
    command = ["-m", "meshproxy", "dashboard", "--sidecars", str(roll), "--listen", f"127.0.0.1:{port}"]
    stage.processes.start("dashboard", [sys.executable, *command], cwd=stage.directory)
    with trio.move_on_after(_PATIENCE):
        while True:
            stage.processes.require("dashboard")
            with contextlib.suppress(OSError):  # it does not listen yet
                if (await ask_tcp(port, request("GET", "/mesh"))).status:
                    return f"http://127.0.0.1:{port}/dashboard"
            await trio.sleep(_LOOK_EVERY)
    raise StageError(f"the dashboard did not answer within {_PATIENCE:g} s: {stage.processes.logs['dashboard'].tail()}")


def _free_port() -> int:
    """The port that dashboards have, or another one where it is taken."""
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise OSError("no port of this machine is free")


async def _trade(stage: Stage) -> None:
    """Let customers come and go, for ever."""
    dice = random.Random(7)

    async def again(pause: float, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            await trio.sleep(pause * dice.uniform(0.5, 1.5))
            with contextlib.suppress(OSError):
                await act()

    async def buy() -> None:
        await stage.buy(dice.choice(_ITEMS), dice.randint(1, 3))

    async def look() -> None:
        await ask_unix(stage.web_to_orders, request("GET", "/orders/whoami"))

    async def forget() -> None:  # no rule lets anybody delete
        await ask_unix(stage.web_to_orders, request("DELETE", "/orders/1"))

    async def pry() -> None:  # a true identity of this mesh that no allow-list of the ledger names
        await ask_tcp(stage.port(7001), request("POST", "/charges", {"order": 1, "cents": 1}))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(again, 0.4, buy)
        for _ in range(4):
            nursery.start_soon(again, 0.15, look)
        nursery.start_soon(again, 8.0, forget)
        nursery.start_soon(again, 12.0, pry)
