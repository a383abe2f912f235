"""A steady load of the demo: clients that ask one request after another, each on a connection it keeps."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

_CLIENTS: Final = 8
_PIECE: Final = 64 * 1024
_LOOK_EVERY: Final = 0.02
_ENOUGH: Final = 100  # failures after which a load has shown what it can show


@dataclass(slots=True)
class Load:
    """What came of the requests so far. `leaving`: who is told that its connection closes does not come back."""

    pause: float = 0.0
    served: int = 0
    told_to_close: int = 0
    failures: list[str] = field(default_factory=list)
    leaving: bool = False
    over: bool = False

    @property
    def words(self) -> str:
        """How it went."""
        first = f" ({self.failures[0]})" if self.failures else ""
        return f"{self.served} served, {len(self.failures)} failed{first}"

    async def grow(self, count: int) -> None:
        """Wait for so many more requests, served or failed."""
        wanted = self.served + len(self.failures) + count
        while self.served + len(self.failures) < wanted:  # noqa: ASYNC110 - the tasks that count are not to be slowed
            await trio.sleep(_LOOK_EVERY)


@asynccontextmanager
async def steady_load(
    path: Path, target: str, expected: Mapping[str, object], *, clients: int = _CLIENTS, pause: float = 0.0
) -> AsyncIterator[Load]:
    """GET `target` at the unix socket `path`; anything but a 200 with the `expected` JSON is a failure.

    Each client waits `pause` seconds between an answer and its next request. On leaving each ends with the answer it
    waits for.
    """
    load = Load(pause=pause)
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(partial(_come, load, path, target, expected))
        yield load
        load.over = True


async def _come(load: Load, path: Path, target: str, expected: Mapping[str, object]) -> None:
    while not load.over and len(load.failures) < _ENOUGH:
        try:
            async with await trio.open_unix_socket(path) as stream:
                closes = await _converse(load, stream, target, expected)
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            load.failures.append(str(error) or type(error).__name__)
            await trio.sleep(load.pause)
        else:
            if closes and load.leaving:
                return


async def _converse(load: Load, stream: trio.SocketStream, target: str, expected: Mapping[str, object]) -> bool:
    """Ask until all is over, or we are told that the connection closes: then return True."""
    connection = h11.Connection(h11.CLIENT)
    while not load.over:
        asked = connection.send(h11.Request(method="GET", target=target, headers=[("Host", "shop")])) or b""
        await stream.send_all(asked + (connection.send(h11.EndOfMessage()) or b""))
        status, body = 0, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(_PIECE))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        if status == 200 and json.loads(body) == expected:
            load.served += 1
        else:
            load.failures.append(f"{status} {body[:80]!r}")
        await trio.sleep(load.pause)
        if connection.their_state is h11.MUST_CLOSE:
            load.told_to_close += 1
            return True
        connection.start_next_cycle()
    return False
