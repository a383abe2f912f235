"""A peer that does not read stops its own connection: memory stays bounded, and all others go on."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from tests.scenarios.actors import Service, dial, exchange, send_pattern
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    import socket

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage

MIB = 1024 * 1024
SLOW = 8
GROWTH = 24 * MIB  # eight connections with at most 256 KiB per direction, and what the allocator keeps


def test_slow_reader_holds_up_only_itself(stage: Stage) -> None:
    released = threading.Event()

    def choosy(sock: socket.socket, visit: Visit) -> None:
        """Echo who says "quick"; never read on from anybody else."""
        visit.take(sock.recv(5))
        if visit.received == b"quick":
            sock.sendall(b"quick")
        else:
            released.wait()

    service = stage.keep(Service(choosy))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    assert exchange(web.address("to-api"), b"quick") == b"quick"
    before = {sidecar: sidecar.resident for sidecar in (api, web)}

    with contextlib.ExitStack() as open_ones:
        open_ones.callback(released.set)
        slow = [open_ones.enter_context(dial(web.address("to-api"))) for _ in range(SLOW)]
        stuck = [fill(caller) for caller in slow]
        for thread in stuck:
            thread.join()  # the caller itself is stopped: back-pressure reaches it
        for _ in range(20):
            assert exchange(web.address("to-api"), b"quick") == b"quick"
        assert api.status().listeners[0].open == SLOW
        for sidecar, resident in before.items():
            assert sidecar.resident - resident < GROWTH
    poll(lambda: api.status().listeners[0].open == 0, "the slow ones gone")


def fill(caller: socket.socket) -> threading.Thread:
    """Send until nothing more is taken for half a second."""

    def send() -> None:
        caller.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            send_pattern(caller, 256 * MIB)
            raise AssertionError("256 MiB were swallowed by a connection nobody reads")

    thread = threading.Thread(target=send)
    thread.start()
    return thread
