"""The two sides of a take-over on one socket pair: who is given the listeners, and what a failed one leaves behind."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.errors import StartError
from meshproxy.runtime import handover as room
from meshproxy.runtime.control import Channel
from meshproxy.runtime.handover import (
    Answered,
    Claim,
    Estate,
    HandOver,
    Holding,
    Piece,
    Refusal,
    Relieved,
    Serving,
)
from meshproxy.runtime.takeover import Predecessor
from meshproxy.settings.schema import AdminSettings
from meshproxy.wire.address import UnixAddress
from meshproxy.wire.inherited import Inheritance, Offer
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from tests.hearing import Heard


@dataclass
class Old:
    """A process that listens at one socket."""

    listener: socket.socket
    heard: Heard
    hand_over: HandOver
    let_go: list[frozenset[str]]
    holdings: list[Holding]


@pytest.fixture
def old() -> Iterator[Old]:
    log, heard = listening_log()
    let_go: list[frozenset[str]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        holdings = [Holding(Piece("inbound/api"), listener.fileno())]
        hand_over = HandOver(lambda: list(holdings), let_go.append, version="1", shift=0, log=log)
        yield Old(listener, heard, hand_over, let_go, holdings)


@asynccontextmanager
async def asked(old: Old) -> AsyncIterator[Channel[Answered]]:
    """The successor's end, while the old one attends to it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    channel = Channel[Answered](ours, Answered)
    async with trio.open_nursery() as nursery:

        async def attend() -> None:
            await old.hand_over.attend(theirs)
            theirs.close()

        nursery.start_soon(attend)
        speaking = trio.CancelScope()

        async def speak() -> None:
            with speaking:
                await channel.run()

        nursery.start_soon(speak)
        yield channel
        await channel.flush()
        channel.close()
        speaking.cancel()


async def test_the_listeners_come_and_are_let_go_of_when_the_heir_serves(old: Old) -> None:
    async with asked(old) as channel:
        channel.say(Claim("2", 7))
        estate = await channel.hear()
        assert estate == Estate("1", os.getpid(), 0, (Piece("inbound/api"),))
        (descriptor,) = channel.take_descriptors()
        with socket.socket(fileno=descriptor) as got:
            assert got.getsockname() == old.listener.getsockname()
        assert old.let_go == []
        channel.say(Serving(("inbound/api",)))
        assert isinstance(await channel.hear(), Relieved)
    assert old.let_go == [frozenset({"inbound/api"})]


async def test_an_heir_that_ends_before_it_serves_changes_nothing(old: Old) -> None:
    async with asked(old) as channel:
        channel.say(Claim("2", 7))
        assert isinstance(await channel.hear(), Estate)
    assert old.let_go == []
    assert old.heard.named("take_over_failed")
    async with asked(old) as channel:  # and the next one may
        channel.say(Claim("2", 8))
        assert isinstance(await channel.hear(), Estate)


async def test_one_at_a_time_none_in_a_drain_and_none_whose_sockets_are_stale(old: Old) -> None:
    async with asked(old) as first:
        first.say(Claim("2", 7))
        assert isinstance(await first.hear(), Estate)
        async with asked(old) as second:
            second.say(Claim("2", 8))
            refused = await second.hear()
            assert refused == Refusal("another process is taking over already")
        old.holdings.clear()
        first.say(Serving(()))
        assert await first.hear() == Refusal("its listeners changed meanwhile; try again")
    assert old.let_go == []
    async with asked(old) as late:
        late.say(Claim("2", 9))
        assert await late.hear() == Refusal("it is draining, and listens nowhere")


async def test_an_heir_that_says_nothing_is_not_waited_for_for_ever(old: Old, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with asked(old) as channel:
        channel.say(Claim("2", 7))
        assert isinstance(await channel.hear(), Estate)
        assert await channel.hear() is None
    assert trio.current_time() >= room.PATIENCE
    assert old.let_go == []


async def test_what_is_no_claim_gets_nothing(old: Old) -> None:
    async with asked(old) as channel:
        channel.say(Serving(("inbound/api",)))
        assert await channel.hear() is None
    assert old.let_go == []
    async with asked(old) as channel:
        channel.say(Relieved())
        assert await channel.hear() is None
    assert old.let_go == []


@pytest.mark.parametrize(("uid", "may"), [(0, True), (os.geteuid(), True), (4711, False), (None, False)])
def test_only_its_own_user_and_root_may(
    old: Old, monkeypatch: pytest.MonkeyPatch, uid: int | None, *, may: bool
) -> None:
    monkeypatch.setattr(room, "peer_uid", lambda _sock: uid)
    refusal = old.hand_over.refusal(old.listener)
    assert (refusal is None) is may
    if refusal is not None:
        assert refusal.startswith(f"user {uid} may not take over this sidecar")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "it answered 404 .an older version"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nuser 7 may not", "does not hand over: user 7 may not"),
        (b"", "it answered nothing"),
        (b"x" * 5000, "it answered"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\0\0\0\x01\xff", "frames differently"),
    ],
)
def test_what_an_heir_cannot_make_sense_of_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str
) -> None:
    monkeypatch.setattr("meshproxy.runtime.takeover._TO_ANSWER", 0.5)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(StartError, match=why) as told:
            Predecessor.ask(AdminSettings(UnixAddress(str(path))))
        thread.join()
    assert "\n" not in str(told.value)
    assert "the running one goes on" in str(told.value)


async def test_who_is_gone_by_then_is_as_good_as_relieved(tmp_path: Path) -> None:
    del tmp_path
    ours, theirs = socket.socketpair()
    theirs.close()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        inherited = Inheritance([Offer(sock, "inbound/api")], strict=False)
        heir = Predecessor(ours, Estate("1", 7, 1, ()), inherited)
        assert heir.shift == 0
        assert await heir.relieve() is False
        heir.leave()


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"\0\0\0\x01\xff", "does not keep to the frames"), (b"\xff" * 8, "does not keep to the frames")],
)
async def test_what_is_no_answer_ends_the_heir(answer: bytes, why: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs, socket.create_server(("127.0.0.1", 0)) as sock:
        theirs.sendall(answer)
        heir = Predecessor(ours, Estate("1", 7, 0, ()), Inheritance([Offer(sock, "inbound/api")], strict=False))
        assert heir.shift == 1
        with pytest.raises(StartError, match=why):
            await heir.relieve()
        heir.leave()
