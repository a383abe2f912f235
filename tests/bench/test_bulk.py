from __future__ import annotations

import socket

import pytest

from bench.bulk import swallow


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_chunked_body_ends_with_its_last_chunk_however_it_is_cut(cut: int) -> None:
    body = b"5\r\n" + bytes(5) + b"\r\n0\r\n\r\n"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(body[cut:-cut])
        theirs.sendall(body[-cut:])
        assert swallow(ours, body[:cut], chunked=True) == len(body)


def test_a_body_that_came_with_its_head_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert swallow(ours, b"0\r\n\r\n", chunked=True) == 5


def test_a_body_that_is_cut_short_is_counted_as_far_as_it_came() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(bytes(1000))
        assert swallow(ours, b"12", chunked=False) == 1002
