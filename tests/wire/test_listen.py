"""Binding with one clear sentence when it fails, and an accept loop that only cancelling ends."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from meshproxy.errors import StartError
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.listen import accept_forever, accept_waiting, bind, bound_address, close_listener, peer_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.wire.conftest import Wires

ANYWHERE = TcpAddress("127.0.0.1", 0)


class Queue:
    """A listening socket that gives what a script says: connections or errors."""

    def __init__(self, *script: socket.socket | int) -> None:
        self._script = iter(script)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        step = next(self._script, errno.EAGAIN)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step, ("192.0.2.7", 4711)

    def as_socket(self) -> socket.socket:
        return cast("socket.socket", self)


@pytest.fixture
def unix_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "s"
    yield path
    path.unlink(missing_ok=True)


def unheard(error: OSError) -> None:
    pytest.fail(f"there was room: {error}")


def remove(path: Path) -> None:
    path.unlink()


def there(path: Path) -> bool:
    return path.is_socket()


def test_port_0_asks_the_system_and_the_real_port_is_told() -> None:
    with bind(ANYWHERE) as sock:
        bound = bound_address(sock)
        assert isinstance(bound, TcpAddress)
        assert bound.host == "127.0.0.1"
        assert bound.port > 0
        assert not sock.getblocking()
        assert not os.get_inheritable(sock.fileno())


def test_an_address_in_use_is_one_sentence_that_says_how_to_find_the_user() -> None:
    with bind(ANYWHERE) as sock:
        taken = bound_address(sock)
        assert isinstance(taken, TcpAddress)
        words = f"cannot listen on {taken}: the address is in use; see by whom with: ss -ltnp sport = :{taken.port}"
        with pytest.raises(StartError, match=f"^{re.escape(words)}$"):
            bind(taken)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (TcpAddress("192.0.2.1", 0), "this machine has no such address"),
        (UnixAddress("/nonexistent/s"), "No such file or directory"),
    ],
)
def test_what_cannot_be_bound_is_told_in_one_sentence(address: TcpAddress | UnixAddress, words: str) -> None:
    with pytest.raises(StartError, match=f"^cannot listen on {re.escape(str(address))}: .*({words})[^\n]*$"):
        bind(address)


def test_a_unix_socket_gets_its_mode_and_the_umask_is_as_before(unix_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with bind(UnixAddress(str(unix_path)), mode=0o666) as sock:
            assert stat.S_IMODE(unix_path.stat().st_mode) == 0o666
            assert bound_address(sock) == UnixAddress(str(unix_path))
        assert os.umask(0o027) == 0o027
        with pytest.raises(StartError):
            bind(UnixAddress("/nonexistent/s"))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_unix_socket_is_never_wider_than_asked_not_even_for_an_instant(
    unix_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    before = os.umask(0)
    try:
        with bind(UnixAddress(str(unix_path)), mode=0o660):
            assert stat.S_IMODE(unix_path.stat().st_mode) & ~0o660 == 0
    finally:
        os.umask(before)


def test_a_stale_socket_file_is_replaced(unix_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(unix_path))
    assert unix_path.is_socket()
    with bind(UnixAddress(str(unix_path))), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(unix_path))


def test_a_living_listener_is_refused_with_one_sentence_and_lives_on(unix_path: Path) -> None:
    with bind(UnixAddress(str(unix_path))) as living:
        words = f"the address is in use; see by whom with: ss -lxp | grep {unix_path}"
        with pytest.raises(StartError, match=f"^cannot listen on unix:{unix_path}: {re.escape(words)}$"):
            bind(UnixAddress(str(unix_path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(unix_path))
            living.accept()[0].close()


def test_a_file_that_is_no_socket_is_never_removed(unix_path: Path) -> None:
    unix_path.write_text("precious")
    with pytest.raises(StartError):
        bind(UnixAddress(str(unix_path)))
    assert unix_path.read_text() == "precious"


async def test_closing_removes_the_socket_file_and_may_be_done_twice(unix_path: Path) -> None:
    sock = bind(UnixAddress(str(unix_path)))
    close_listener(sock)
    assert sock.fileno() == -1
    assert not there(unix_path)
    close_listener(sock)


async def test_closing_leaves_the_socket_of_a_successor(unix_path: Path) -> None:
    """A restart under a supervisor: the new process listens at the same path before the old one has drained."""
    old = bind(UnixAddress(str(unix_path)))
    remove(unix_path)
    with bind(UnixAddress(str(unix_path))):
        close_listener(old)
        assert there(unix_path)


async def test_a_task_that_waits_for_a_closed_listener_is_told(nursery: trio.Nursery) -> None:
    sock = bind(ANYWHERE)
    heard = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await accept_forever(sock, lambda *_: None, lambda _: None)
        heard.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    close_listener(sock)
    with trio.fail_after(1):
        await heard.wait()


async def test_connections_come_non_blocking_prepared_and_with_their_peer(nursery: trio.Nursery) -> None:
    sock = bind(ANYWHERE)
    taken: list[tuple[socket.socket, str]] = []
    arrived = trio.Event()

    def take(connection: socket.socket, peer: str) -> None:
        taken.append((connection, peer))
        arrived.set()

    nursery.start_soon(accept_forever, sock, take, lambda _: None)
    with socket.create_connection(sock.getsockname()) as client, trio.fail_after(1):
        await arrived.wait()
        ((connection, peer),) = taken
        host, port = client.getsockname()
        assert peer == f"{host}:{port}"
        assert not connection.getblocking()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()
    nursery.cancel_scope.cancel()
    close_listener(sock)


async def test_a_unix_peer_has_no_address_but_a_user(unix_path: Path, wires: Wires) -> None:
    sock = bind(UnixAddress(str(unix_path)))
    taken: list[tuple[socket.socket, str]] = []
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(unix_path))
        assert accept_waiting(sock, lambda connection, peer: taken.append((connection, peer)), unheard)
    ((connection, peer),) = taken
    with connection:
        assert peer == "unix"
        assert peer_uid(connection) == os.getuid()
    close_listener(sock)


def test_where_the_kernel_cannot_tell_the_user_none_is_said(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    near, _far = wires.unix()
    monkeypatch.delattr(socket, "SO_PEERCRED")
    assert peer_uid(near) is None


@pytest.mark.parametrize("code", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "EINTR", "EPERM"])
def test_a_connection_that_died_in_the_queue_is_passed_over(wires: Wires, code: str) -> None:
    near, _far = wires.tcp()
    taken: list[str] = []
    accept_waiting(Queue(getattr(errno, code), near).as_socket(), lambda _, peer: taken.append(peer), unheard)
    assert taken == ["192.0.2.7:4711"]


def test_at_most_so_many_are_accepted_in_a_row(wires: Wires) -> None:
    queue = Queue(wires.tcp()[0], wires.tcp()[0], wires.tcp()[0])
    taken: list[str] = []
    accept_waiting(queue.as_socket(), lambda _, peer: taken.append(peer), unheard, most=2)
    assert len(taken) == 2
    accept_waiting(queue.as_socket(), lambda _, peer: taken.append(peer), unheard)
    assert len(taken) == 3


def test_who_waits_is_taken_on_as_far_as_there_is_room(wires: Wires) -> None:
    """At the end of a listener nobody may wait for room: what is left in the queue is lost, the sidecar is not."""
    taken: list[str] = []
    starved: list[OSError] = []

    def on_starved(error: OSError) -> None:
        starved.append(error)

    queue = Queue(wires.tcp()[0], errno.EMFILE, wires.tcp()[0])
    assert not accept_waiting(queue.as_socket(), lambda _, peer: taken.append(peer), on_starved)
    assert (len(taken), len(starved)) == (1, 1)


@pytest.fixture
def always_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def readable(_sock: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", readable)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_for_want_of_descriptors_accepting_pauses_and_goes_on(
    wires: Wires, always_readable: None, autojump_clock: trio.testing.MockClock, code: int
) -> None:
    near, _far = wires.tcp()
    queue = Queue(code, code, near)
    paused: list[int | None] = []
    taken: list[float] = []
    started = trio.current_time()
    with trio.CancelScope() as scope:

        def take(_sock: socket.socket, _peer: str) -> None:
            taken.append(trio.current_time() - started)
            scope.cancel()

        await accept_forever(queue.as_socket(), take, lambda error: paused.append(error.errno))
    assert paused == [code, code]
    assert taken == [pytest.approx(0.2)]


async def test_an_error_of_our_own_making_is_not_swallowed(always_readable: None) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        await accept_forever(Queue(errno.EINVAL).as_socket(), lambda *_: None, lambda _: None)


async def test_woken_and_cancelled_in_one_turn_it_does_not_touch_the_listener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A caller arrives in the very turn in which a drain cancels the loop and closes the listener."""
    sock = bind(ANYWHERE)
    with trio.CancelScope() as scope:

        async def woken(_sock: object) -> None:
            scope.cancel()
            sock.close()

        monkeypatch.setattr(trio.lowlevel, "wait_readable", woken)
        await accept_forever(sock, lambda *_: None, lambda _: None)
    assert scope.cancelled_caught
