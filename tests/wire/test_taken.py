"""Who has taken little is given little at a time; who has taken much, or of whom nobody tells, all there is."""

from __future__ import annotations

import socket

import pytest

from meshproxy.wire.buffers import LARGEST, SMALLEST
from meshproxy.wire.taken import reach


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


def test_long_reads_are_for_who_has_taken_as_much() -> None:
    ours, theirs = connected()
    with ours, theirs:
        assert reach(ours, 2 * SMALLEST) == SMALLEST
        ours.settimeout(5)
        left = LARGEST
        while left:  # until it is taken, and the kernel was told of it
            left -= ours.send(bytes(min(left, 1024)))
            theirs.recv(1024, socket.MSG_WAITALL)
        assert reach(ours, 2 * SMALLEST) == 2 * SMALLEST


@pytest.mark.parametrize("chunk", [16 << 10, SMALLEST, LARGEST])
def test_what_is_short_or_has_grown_already_is_not_asked_about(chunk: int) -> None:
    ours, theirs = connected()
    with ours, theirs:
        assert reach(ours, chunk) == chunk


def test_all_where_nobody_tells() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert reach(ours, 2 * SMALLEST) == 2 * SMALLEST
