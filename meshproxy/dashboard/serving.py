"""The dashboard of many sidecars at one address of this machine, while files may say at any time which those are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.admin.server import AdminServer
from meshproxy.dashboard.gathering import Gathering
from meshproxy.dashboard.pages import Pages
from meshproxy.dashboard.roll import read_roll
from meshproxy.errors import FaultyInput

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.dashboard.roll import Post
    from meshproxy.wire.address import Address

_LOOK_EVERY: Final = 5.0  # seconds between looks at the files


async def serve(listener: socket.socket, address: Address, posts: Sequence[Post], place: Path | None) -> None:
    """Watch the sidecars of `posts` and show them at `listener`, which `address` names, until cancelled.

    `place` (None: nothing follows) is read again every few seconds; while it cannot be read, all stays as it was.
    """
    gathering = Gathering(time.time)
    gathering.watch(posts)
    server = AdminServer(listener, address, Pages(gathering).all(), {}, check_host=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        nursery.start_soon(gathering.run)
        while place is not None:
            await trio.sleep(_LOOK_EVERY)
            try:
                gathering.watch(await trio.to_thread.run_sync(read_roll, place))
            except (FaultyInput, OSError):  # half written, or away for a moment
                continue
