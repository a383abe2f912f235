"""An acted mesh on real sockets, gathered and served as `meshproxy dashboard` does."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from meshproxy.admin.server import AdminServer
from meshproxy.dashboard.gathering import Gathering
from meshproxy.dashboard.pages import Pages
from meshproxy.dashboard.roll import Post
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from meshproxy.admin.answers import Inquiry
    from meshproxy.wire.address import Address
    from tests.dashboard.acting import Play


@dataclass(slots=True)
class Stage:
    """Where the page is, and ways to change what happens."""

    play: Play
    gathering: Gathering
    url: str = ""
    posts: list[Post] = field(default_factory=list)
    running: dict[str, trio.CancelScope] = field(default_factory=dict)

    async def act(self, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run one acted sidecar until it is stopped."""
        server, address = self.play.sidecars[name].server()
        self.posts.append(Post(address))
        try:
            with trio.CancelScope() as self.running[name]:
                task_status.started()
                await server.run()
        finally:
            close_listener(server._listener)


async def each_second(play: Play) -> None:
    """Let the play go on."""
    while True:
        await trio.sleep(1 - time.time() % 1)
        play.second(time.time())


@asynccontextmanager
async def serving(views: Mapping[str, Inquiry]) -> AsyncIterator[Address]:
    """Serve views at a free port."""
    listener = bind(TcpAddress("127.0.0.1", 0))
    address = bound_address(listener)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(AdminServer(listener, address, views, {}, check_host=True).run)
            yield address
            nursery.cancel_scope.cancel()
    finally:
        close_listener(listener)


@asynccontextmanager
async def gathered(play: Play) -> AsyncIterator[Stage]:
    """The play live, all its sidecars gathered, and the page served."""
    stage = Stage(play, Gathering(time.time))
    async with trio.open_nursery() as nursery:
        for name in play.sidecars:
            await nursery.start(stage.act, name)
        stage.gathering.watch(stage.posts)
        nursery.start_soon(stage.gathering.run)
        nursery.start_soon(each_second, play)
        async with serving(Pages(stage.gathering).all()) as address:
            stage.url = f"http://{address}"
            yield stage
        nursery.cancel_scope.cancel()
