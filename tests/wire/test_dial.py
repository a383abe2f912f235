"""Names are asked again for every connection; a dead name server costs at most its time, and the last answer serves."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.dial import ResolveError, Resolver, Target, connect, look_up
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    from pathlib import Path

NAME = TcpAddress("ledger.internal", 8443)
ONE = Target(socket.AF_INET, ("10.0.0.7", 8443))
TWO = Target(socket.AF_INET6, ("fd00::7", 8443, 0, 0))


class Answers:
    """A name server that follows a script of answers and errors."""

    def __init__(self, *script: list[Target] | OSError) -> None:
        self._script = iter(script)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[Target]:
        self.asked.append((host, port))
        answer = next(self._script)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("address", "target", "told"),
    [
        (TcpAddress("127.0.0.1", 80), Target(socket.AF_INET, ("127.0.0.1", 80)), "127.0.0.1:80"),
        (TcpAddress("::1", 80), Target(socket.AF_INET6, ("::1", 80)), "[::1]:80"),
        (UnixAddress("/run/x"), Target(socket.AF_UNIX, "/run/x"), "unix:/run/x"),
    ],
)
async def test_literals_are_never_looked_up(address: TcpAddress | UnixAddress, target: Target, told: str) -> None:
    asked = Answers()
    assert await Resolver(asked).resolve(address, within=1) == (target,)
    assert str(target) == told
    assert asked.asked == []


async def test_a_name_is_asked_again_each_time_and_answers_are_told_once() -> None:
    ask = Answers([ONE, TWO, ONE], [TWO])
    resolver = Resolver(ask)
    assert await resolver.resolve(NAME, within=1) == (ONE, TWO)
    assert await resolver.resolve(NAME, within=1) == (TWO,)
    assert ask.asked == [("ledger.internal", 8443)] * 2
    assert repr(resolver) == "<Resolver names=1>"


async def test_the_last_good_answer_serves_while_the_name_server_does_not() -> None:
    broken = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver = Resolver(Answers([ONE], broken, OSError("odd"), [TWO], broken))
    seen = [await resolver.resolve(NAME, within=1) for _ in range(5)]
    assert seen == [(ONE,), (ONE,), (ONE,), (TWO,), (TWO,)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("the resolver has no words"), "the resolver has no words"),
    ],
)
async def test_a_name_that_never_had_an_answer_is_told_with_the_resolvers_words(error: OSError, words: str) -> None:
    with pytest.raises(ResolveError, match=f"^cannot resolve ledger.internal: {words}$"):
        await Resolver(Answers(error)).resolve(NAME, within=1)


async def test_an_empty_answer_is_no_answer() -> None:
    resolver = Resolver(Answers([], [ONE], []))
    with pytest.raises(ResolveError, match=r"^cannot resolve ledger.internal: it has no address$"):
        await resolver.resolve(NAME, within=1)
    assert await resolver.resolve(NAME, within=1) == (ONE,)
    assert await resolver.resolve(NAME, within=1) == (ONE,)


async def test_slow_look_ups_hold_up_neither_the_loop_nor_each_other_for_longer_than_asked() -> None:
    """More of them than there are threads: the last ones wait for a thread, and not longer than anyone."""
    release = threading.Event()
    answered = [ONE]

    def ask(_host: str, _port: int) -> list[Target]:
        if not answered:
            release.wait(10)
            return [TWO]
        return [answered.pop()]

    resolver = Resolver(ask)
    assert await resolver.resolve(NAME, within=5) == (ONE,)
    fallen_back: list[tuple[Target, ...]] = []
    turns = 0

    async def resolve() -> None:
        fallen_back.append(await resolver.resolve(NAME, within=0.05))

    async def count_turns() -> None:
        nonlocal turns
        while len(fallen_back) < 12:
            turns += 1
            await trio.sleep(0.005)

    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count_turns)
                for _ in range(12):
                    nursery.start_soon(resolve)
            with pytest.raises(ResolveError, match=r"no answer within 0\.01 s"):
                await resolver.resolve(TcpAddress("other.internal", 1), within=0.01)
    finally:
        release.set()
    assert fallen_back == [(ONE,)] * 12
    assert turns > 1  # the loop went on turning


def test_the_systems_resolver_is_asked_for_streams() -> None:
    found = look_up("localhost", 80)
    assert {target.name[:2] for target in found} <= {("127.0.0.1", 80), ("::1", 80)}
    assert found


async def test_connecting_gives_a_prepared_socket() -> None:
    listener = bind(TcpAddress("127.0.0.1", 0))
    with await connect(Target(socket.AF_INET, listener.getsockname()), within=5) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    close_listener(listener)


async def test_on_this_machine_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_sock: object) -> None:
        raise AssertionError("the handshake on loopback is over before connect(2) returns")

    monkeypatch.setattr(trio.lowlevel, "wait_writable", never)
    listener = bind(TcpAddress("127.0.0.1", 0))
    (await connect(Target(socket.AF_INET, listener.getsockname()), within=5)).close()
    close_listener(listener)


@pytest.mark.parametrize("answer", [None, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")])
async def test_who_does_not_answer_at_once_is_waited_for(
    answer: OSError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A far machine: connect(2) says twice that it goes on, and the socket tells later what became of it."""

    class Far(socket.socket):
        def connect(self, _name: object) -> None:
            raise BlockingIOError(errno.EINPROGRESS, "in progress")

        def getsockopt(self, *_option: int) -> int:  # type: ignore[override]  # SO_ERROR only
            return 0 if answer is None else answer.errno or 0

    async def answered(_sock: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(socket, "socket", Far)
    monkeypatch.setattr(trio.lowlevel, "wait_writable", answered)
    target = Target(socket.AF_INET, ("192.0.2.1", 80))
    if answer is None:
        (await connect(target, within=5)).close()
        return
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        await connect(target, within=5)


async def test_a_system_that_calls_the_second_call_an_error_is_connected_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """BSD answers EISCONN where Linux returns."""
    answers = iter([BlockingIOError(errno.EINPROGRESS, "in progress"), OSError(errno.EISCONN, "is connected")])

    class Bsd(socket.socket):
        def connect(self, _name: object) -> None:
            raise next(answers)

    monkeypatch.setattr(socket, "socket", Bsd)
    (await connect(Target(socket.AF_INET, ("127.0.0.1", 80)), within=5)).close()


async def test_nobody_is_waited_for_longer_than_told(
    monkeypatch: pytest.MonkeyPatch, settling_clock: trio.testing.MockClock
) -> None:
    async def never(_sock: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("meshproxy.wire.dial._connects_at_once", lambda *_: False)
    monkeypatch.setattr(trio.lowlevel, "wait_writable", never)
    started = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await connect(Target(socket.AF_INET, ("192.0.2.1", 80)), within=5)
    assert 5 <= trio.current_time() - started < 5.5


async def test_a_refused_connection_is_an_error_with_words() -> None:
    listener = bind(TcpAddress("127.0.0.1", 0))
    gone = bound_address(listener)
    close_listener(listener)
    assert isinstance(gone, TcpAddress)
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        await connect(Target(socket.AF_INET, (gone.host, gone.port)), within=5)


async def test_a_missing_unix_socket_is_an_error_with_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        await connect(Target(socket.AF_UNIX, str(tmp_path / "s")), within=5)


async def test_a_unix_listener_whose_queue_is_full_is_asked_again(
    tmp_path: Path, settling_clock: trio.testing.MockClock
) -> None:
    """connect(2): EAGAIN on a unix socket comes with no wake-up later."""
    target = Target(socket.AF_UNIX, str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        first = await connect(target, within=5)
        arrived: list[socket.socket] = []

        async def second() -> None:
            arrived.append(await connect(target, within=5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await trio.sleep(0.05)
            assert arrived == []
            listener.accept()[0].close()
        first.close()
        arrived[0].close()


async def test_a_connect_that_is_cancelled_closes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Silent(socket.socket):
        def connect(self, _name: object) -> None:
            made.append(self)
            raise BlockingIOError(errno.EINPROGRESS, "in progress")

    async def never(_sock: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(socket, "socket", Silent)
    monkeypatch.setattr(trio.lowlevel, "wait_writable", never)
    with trio.move_on_after(0.01) as scope:
        await connect(Target(socket.AF_INET, ("192.0.2.1", 80)), within=5)
    assert scope.cancelled_caught
    assert made[0].fileno() == -1
