"""The dashboard of many sidecars at one address of this machine, while files may say at any time which those are."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.admin.server import AdminServer
from meshproxy.dashboard.gathering import Gathering
from meshproxy.dashboard.pages import Pages
from meshproxy.dashboard.roll import read_roll
from meshproxy.errors import FaultyInput
from meshproxy.wire.listen import close_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.dashboard.roll import Post
    from meshproxy.wire.address import Address

_LOOK_EVERY: Final = 5.0  # seconds between looks at the files


async def serve(listener: socket.socket, address: Address, posts: Sequence[Post], place: Path | None) -> None:
    """Watch the sidecars of `posts` and show them at `listener`, which `address` names, until SIGINT or SIGTERM.

    The listener is closed then.
    `place` (None: nothing follows) is read again every few seconds; while it cannot be read, all stays as it was.
    """
    gathering = Gathering(time.time)
    gathering.watch(posts)
    server = AdminServer(listener, address, Pages(gathering).all(), {}, check_host=True)
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                nursery.start_soon(gathering.run)
                if place is not None:
                    nursery.start_soon(_follow, place, gathering)
                await anext(signals)
                nursery.cancel_scope.cancel()
    finally:
        close_listener(listener)


async def _follow(place: Path, gathering: Gathering) -> None:
    while True:
        await trio.sleep(_LOOK_EVERY)
        try:
            gathering.watch(await trio.to_thread.run_sync(read_roll, place))
        except (FaultyInput, OSError):  # half written, or away for a moment
            continue
