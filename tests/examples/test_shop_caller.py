"""The demo's caller tells a whole answer from one that broke off, whatever the connection says."""

from __future__ import annotations

import pytest

from examples.shop.caller import read_answer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "error", "status", "body"),
    [
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", "", 200, b"abc"),
        (CHUNKED + b"3\r\nabc\r\n", "the answer lacks its end", 200, b"abc"),
        (SIZED + b"abc", "", 200, b"abc"),
        (SIZED + b"ab", "the answer lacks its end", 200, b"ab"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00", "", 101, b""),
        (b"HTTP/1.1 20", "no answer", 0, b""),
        (b"", "no answer", 0, b""),
    ],
)
def test_an_answer_is_whole_or_an_error(data: bytes, error: str, status: int, body: bytes) -> None:
    answer = read_answer(data, "")
    assert (answer.error, answer.status, answer.body) == (error, status, body)


def test_what_the_connection_said_comes_first() -> None:
    assert read_answer(SIZED + b"ab", "connection reset by peer").error == "connection reset by peer"
