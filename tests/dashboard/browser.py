"""A headless Chromium driven over the DevTools protocol, through two pipes: no other library, no port, no driver.

The protocol: https://chromedevtools.github.io/devtools-protocol/; `--remote-debugging-pipe` reads JSON messages from
descriptor 3 and writes them to 4, each ended by a NUL.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
_PATIENCE = 30.0


@dataclass(slots=True)
class Complaints:
    """What a browser has to say against a page."""

    console: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)


class Tab:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints = Complaints()

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Ask the page's DevTools."""
        return await self._browser.call(method, parameters, self._session)

    async def open(self, url: str) -> None:
        """Go there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def show(self) -> None:
        """Bring it to the front, before all others."""
        await self.call("Page.bringToFront")

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Take a size and a theme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def ask(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; awaits promises."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"].get("exception", {}).get("description", told))
        return told["result"].get("value")

    async def until(self, expression: str, *, within: float = _PATIENCE) -> Any:
        """Wait for JavaScript to become true; returns what it became."""
        last: Any = None
        with trio.move_on_after(within):
            while not (last := await self.ask(expression)):  # noqa: ASYNC110 - the page cannot set our events
                await trio.sleep(0.05)
            return last
        page = await self.ask("document.body.innerText")
        raise AssertionError(f"never true: {expression} (last {last!r}); the page says:\n{page[:3000]}")

    async def shoot(self, path: Path) -> None:
        """Save a picture of what is seen."""
        told = await self.call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(told["data"]))

    def hear(self, method: str, told: dict[str, Any]) -> None:
        """Take an event."""
        if method == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning", "assert"}:
            self.complaints.console.append(" ".join(str(each.get("value", each)) for each in told["args"]))
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.complaints.console.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
            self.complaints.console.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.complaints.origins.add("/".join(told["request"]["url"].split("/")[:3]))


class Browser:
    """A running Chromium."""

    def __init__(self, write: trio.abc.SendStream, read: trio.abc.ReceiveStream) -> None:
        self._write, self._read = write, read
        self._number = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    async def tab(self) -> Tab:
        """Open a new page."""
        target = await self.call("Target.createTarget", {"url": "about:blank"})
        attached = await self.call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        tab = Tab(self, attached["sessionId"])
        self._tabs[attached["sessionId"]] = tab
        return tab

    async def call(self, method: str, parameters: dict[str, object], session: str = "") -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self._number += 1
        number = self._number
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        await self._write.send_all(json.dumps(message).encode() + b"\0")
        with trio.fail_after(_PATIENCE):
            answer = await receive.receive()
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self) -> None:
        """Take what the browser says, for ever."""
        buffer = b""
        while data := await self._read.receive_some(1 << 16):
            *messages, buffer = (buffer + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._waiting.pop(message["id"]).send_nowait(message)
                elif tab := self._tabs.get(message.get("sessionId", "")):
                    tab.hear(message["method"], message["params"])


@asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Browser]:
    """A browser with a fresh profile below `directory`; it ends with the block."""
    assert CHROMIUM is not None
    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()
    # The shell puts the pipes where Chromium looks for them; `pass_fds` keeps their numbers.
    command = f'exec "$0" "$@" 3<&{theirs_read} 4>&{theirs_write}'
    profile = f"--user-data-dir={directory / 'profile'}"
    process = await trio.lowlevel.open_process(
        ["bash", "-c", command, CHROMIUM, *_FLAGS, profile, "about:blank"],
        pass_fds=(theirs_read, theirs_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_read, theirs_write):
        os.close(end)
    try:
        async with (
            trio.lowlevel.FdStream(ours_write) as write,
            trio.lowlevel.FdStream(ours_read) as read,
            trio.open_nursery() as nursery,
        ):
            browser = Browser(write, read)
            nursery.start_soon(browser.listen)
            yield browser
            with trio.move_on_after(5):
                await browser.call("Browser.close", {})
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
