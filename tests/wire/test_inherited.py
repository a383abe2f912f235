"""Sockets that were there before us: whose they are is checked, and nothing is taken that does not fit."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import StartError
from meshproxy.wire import inherited as room
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.inherited import Inheritance, Offer, handed_over, passed_on

if TYPE_CHECKING:
    from pathlib import Path

MODE = 0o660


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def listening_at(path: Path, mode: int = MODE) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    path.chmod(mode)
    sock.listen()
    return sock


def here(sock: socket.socket) -> TcpAddress:
    return TcpAddress(*sock.getsockname())


def test_a_socket_is_found_by_its_address_whatever_it_is_called() -> None:
    with listening() as one, listening() as two:
        offered = Inheritance([Offer(one, "meshproxy.socket", lent=True), Offer(two, "meshproxy.socket", lent=True)])
        assert offered.claim({"api"}, here(two), mode=MODE) is two
        assert not two.getblocking()
        assert offered.claim({"api"}, here(two), mode=MODE) is None  # once only
        rest = f'"meshproxy.socket" on {here(one)}'
        assert offered.close_rest() == [rest]
        assert one.fileno() < 0


def test_a_name_of_this_machine_is_its_address() -> None:
    with listening() as sock:
        offered = Inheritance([Offer(sock, "")])
        assert offered.claim(set(), TcpAddress("localhost", here(sock).port), mode=MODE) is sock


def test_where_the_system_picks_the_port_the_name_decides() -> None:
    with listening() as one, listening() as two:
        offered = Inheritance([Offer(one, "other"), Offer(two, "api")])
        assert offered.claim({"api"}, TcpAddress("127.0.0.1", 0), mode=MODE) is two
        assert offered.claim({"api"}, TcpAddress("127.0.0.1", 0), mode=MODE) is None


def test_a_service_manager_and_the_file_that_disagree_are_told() -> None:
    with listening() as sock:
        offered = Inheritance([Offer(sock, "api", lent=True)])
        with pytest.raises(StartError, match="write the same address in both"):
            offered.claim({"api"}, TcpAddress("127.0.0.1", 1), mode=MODE)


def test_a_listener_that_moved_between_two_files_is_bound_anew() -> None:
    with listening() as sock:
        offered = handed_over([("inbound/api", False, sock.detach())])
        assert offered.claim({"inbound/api", "api"}, TcpAddress("127.0.0.1", 1), mode=MODE) is None
        assert len(offered.close_rest()) == 1


def test_a_lent_unix_socket_stays_its_lenders(tmp_path: Path) -> None:
    with listening_at(tmp_path / "a.sock") as sock:
        offered = Inheritance([Offer(sock, "", lent=True)])
        (tmp_path / "link").symlink_to(tmp_path)
        address = UnixAddress(str(tmp_path / "link" / "a.sock"))
        assert not offered.lends(address)
        assert offered.claim(set(), address, mode=MODE) is sock
        assert offered.lends(address)
        assert not offered.lends(UnixAddress(str(tmp_path / "b.sock")))


def test_a_lent_unix_socket_that_is_too_wide_is_refused(tmp_path: Path) -> None:
    with listening_at(tmp_path / "a.sock", 0o666) as sock:
        offered = Inheritance([Offer(sock, "", lent=True)])
        with pytest.raises(StartError, match="write SocketMode=0660"):
            offered.claim(set(), UnixAddress(str(tmp_path / "a.sock")), mode=MODE)


@pytest.mark.parametrize(("before", "wanted"), [(0o666, 0o660), (0o660, 0o666)])
def test_while_nothing_is_decided_a_file_is_no_wider_than_either_wants(
    tmp_path: Path, before: int, wanted: int
) -> None:
    file = tmp_path / "a.sock"

    def mode() -> int:
        return stat.S_IMODE(file.stat().st_mode)

    with listening_at(file, before) as sock:
        for undone in (True, False):
            offered = Inheritance([Offer(sock, "")], strict=False)
            assert offered.claim(set(), UnixAddress(str(file)), mode=wanted) is sock
            assert mode() == before & wanted
            if undone:
                offered.undo()
                assert mode() == before
            offered.settle()
            assert mode() == (before if undone else wanted)
            offered.undo()
            assert mode() == (before if undone else wanted)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"LISTEN_PID": "7", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "8"},
        {"LISTEN_PID": "8", "LISTEN_FDS": "x"},
        {"LISTEN_PID": "8", "LISTEN_FDS": "-1"},
        {"LISTEN_PID": "8", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "", "LISTEN_FDS": "1"},
    ],
)
def test_what_is_not_for_us_is_left_alone_and_forgotten(told: dict[str, str]) -> None:
    environment = {**told, "LISTEN_FDNAMES": "api", "HOME": "/"}
    assert passed_on(environment, 8).offers == []
    assert environment == {"HOME": "/"}


def test_descriptors_are_named_in_order_and_not_passed_on_further(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as one, listening() as two:
        low = sorted((one.fileno(), two.fileno()))
        monkeypatch.setattr(room, "_FIRST", low[0])
        if low[1] != low[0] + 1:
            pytest.skip("somebody else has the number between")
        os.set_inheritable(low[0], True)
        environment = {"LISTEN_PID": "8", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api"}
        offers = passed_on(environment, 8).offers
        assert [(each.sock.fileno(), each.name, each.lent) for each in offers] == [
            (low[0], "api", True),
            (low[1], "", True),
        ]
        assert not os.get_inheritable(low[0])
        for each in offers:
            each.sock.detach()


def test_what_cannot_be_a_listener_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            monkeypatch.setattr(room, "_FIRST", sock.fileno())
            with pytest.raises(StartError, match="no listening stream socket"):
                passed_on({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, 8)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == kind  # left open
