"""However large a body is, it arrives as it was sent, and the sidecars stay small."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import PATTERN, crc_of_pattern, send_pattern
from tests.scenarios.http_actors import request, response
from tests.scenarios.stage import Scales

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk

MIB = 1024 * 1024
GROWTH = 12 * MIB  # buffers of one exchange and what the allocator keeps
MUCH = [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.long)]
CHUNKED = "Transfer-Encoding: chunked"


def say_body(talk: Talk, size: int, *, in_chunks: bool) -> None:
    """Say `size` bytes of the pattern, as they are or in chunks of 256 KiB."""
    if not in_chunks:
        send_pattern(talk.sock, size)
        return
    for _ in range(size // len(PATTERN)):
        talk.say(b"%x\r\n" % len(PATTERN))
        talk.say(PATTERN + b"\r\n")
    talk.say(b"0\r\n\r\n")


@pytest.mark.parametrize("size", MUCH)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_an_upload_is_carried_with_flat_memory(pair: Pair, origin: Origin, size: int, *, in_chunks: bool) -> None:
    arrived: list[tuple[int, int]] = []

    def weigh(talk: Talk, asked: Message) -> None:
        arrived.append(talk.weigh_body(asked))
        talk.say(response(200, b"weighed"))

    origin.respond = weigh
    scales = Scales(pair.api, pair.web)

    with pair.caller() as caller:
        caller.say(request("PUT", "/upload", CHUNKED if in_chunks else f"Content-Length: {size}"))
        say_body(caller, size, in_chunks=in_chunks)
        assert caller.hear().body == b"weighed"
    scales.put_away()

    assert arrived == [(size, crc_of_pattern(size))]
    for sidecar in (pair.api, pair.web):
        assert sidecar.log.request(path="/upload").bytes_in == size
    assert scales.growth < GROWTH, f"grew by {scales.growth / MIB:.1f} MiB"


@pytest.mark.parametrize("size", MUCH)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_a_download_is_carried_with_flat_memory(pair: Pair, origin: Origin, size: int, *, in_chunks: bool) -> None:
    def pour(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        framing = CHUNKED if in_chunks else f"Content-Length: {size}"
        talk.say(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        say_body(talk, size, in_chunks=in_chunks)

    origin.respond = pour
    scales = Scales(pair.api, pair.web)

    with pair.caller() as caller:
        caller.say(request("GET", "/download"))
        assert caller.weigh_body(caller.hear_head()) == (size, crc_of_pattern(size))
        assert caller.ask("HEAD", "/", "X-Note: the connection goes on").status == 200
    scales.put_away()

    for sidecar in (pair.api, pair.web):
        assert sidecar.log.request(path="/download").bytes_out == size
    assert scales.growth < GROWTH, f"grew by {scales.growth / MIB:.1f} MiB"


def test_both_directions_stream_at_once(pair: Pair, origin: Origin) -> None:
    """A service may answer while it is still being asked: an echo of more than all buffers together."""
    size = 32 * MIB

    def echo(talk: Talk, asked: Message) -> None:
        talk.say(f"HTTP/1.1 200 OK\r\n{CHUNKED}\r\n\r\n".encode())
        for piece in talk.pieces(asked):
            talk.say(b"%x\r\n%b\r\n" % (len(piece), piece))
        talk.say(b"0\r\n\r\n")

    origin.respond = echo
    with pair.caller() as caller:
        caller.say(request("POST", "/echo", CHUNKED))
        talking = threading.Thread(target=say_body, args=(caller, size), kwargs={"in_chunks": True})
        talking.start()
        assert caller.weigh_body(caller.hear_head()) == (size, crc_of_pattern(size))
        talking.join()
