"""Listeners come, go, move and change one by one, on real sockets; what happens to one leaves the others alone."""

from __future__ import annotations

import socket
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.errors import StartError
from meshproxy.inbound.live import Call
from tests.runtime.conftest import WEB, House, inbound, outbound

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = "127.0.0.1:0"
API, OPS = inbound("api", ANY), inbound("ops", ANY)
HOME = TrustDomain("mesh.test")
_DAY = timedelta(days=1)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield f"127.0.0.1:{somebody.getsockname()[1]}"


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def sockaddr(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def refuses(address: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(sockaddr(address)) != 0


async def test_when_one_cannot_be_bound_none_stays_bound(house: House, taken: str, tmp_path: Path) -> None:
    first = free_address()
    house.write(inbound("api", first), outbound("ledger", f"unix:{tmp_path}/l"), outbound("late", taken))
    with pytest.raises(StartError, match="in use"):
        house.stations.bind_all(house.load())
    assert refuses(first)
    assert not (tmp_path / "l").exists()


async def test_a_new_listener_serves_and_the_others_go_on(house: House, nursery: trio.Nursery) -> None:
    await house.serve(API, nursery=nursery)
    api, at = await house.call(house.address("api")), house.address("api")
    house.apply(API, OPS, outbound("ledger", ANY))
    assert (await house.call(house.address("ops"))).answered == "ops 127.0.0.1:9"
    assert (await house.call(house.address("ledger"))).answered == "ledger /ledger"
    assert await api.is_served()
    assert house.address("api") == at
    assert house.recorder.listener("api").open == 1  # counters of the unchanged go on
    assert (house.retired, house.asked_to_end) == ([], [])
    nursery.cancel_scope.cancel()


async def test_a_removed_listener_is_closed_and_its_connections_get_their_time(
    house: House, nursery: trio.Nursery, settling_clock: trio.testing.MockClock
) -> None:
    await house.serve(API, OPS, nursery=nursery)
    gone, stays = await house.call(house.address("ops")), await house.call(house.address("api"))
    at = house.address("ops")
    assert isinstance(at, tuple)
    house.apply(API, within=30)
    assert refuses(f"{at[0]}:{at[1]}")
    assert house.asked_to_end == ["ops 127.0.0.1:9"]
    assert repr(house.stations) == "<Stations [('inbound', 'api')] leaving=1>"
    await trio.sleep(29)
    assert await gone.is_served()
    await trio.sleep(2)
    assert not await gone.is_served()
    assert [line.end for line in house.lines] == ["drained"]
    assert house.retired == ["ops 127.0.0.1:9"]
    assert await stays.is_served()
    assert "leaving=0" in repr(house.stations)
    nursery.cancel_scope.cancel()


async def test_a_moved_listener_serves_at_the_new_address_at_once(house: House, nursery: trio.Nursery) -> None:
    await house.serve(API, nursery=nursery)
    before, old, new = await house.call(house.address("api")), house.address("api"), free_address()
    assert isinstance(old, tuple)
    waiting = socket.create_connection(old)
    with waiting:
        house.apply(inbound("api", new))  # in the same turn, so that nobody has accepted the one who waits
        after = await house.call(house.address("api"))
        assert after.answered == "api 127.0.0.1:9"
        assert house.address("api") == sockaddr(new)
        waiting.setblocking(False)
        await trio.lowlevel.wait_readable(waiting)
        assert waiting.recv(100) == b"api 127.0.0.1:9"  # who waited was taken on, not reset
    assert await before.is_served()
    before.leave()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert house.retired == ["api 127.0.0.1:9"]
    assert await after.is_served()
    assert house.recorder.listener("api").ended == {"clean": 2}
    nursery.cancel_scope.cancel()


async def test_changed_settings_are_for_new_connections_and_the_open_are_asked_to_end(
    house: House, nursery: trio.Nursery
) -> None:
    await house.serve(API, OPS, nursery=nursery)
    before, at = await house.call(house.address("api")), house.address("api")
    house.apply(API.replace("127.0.0.1:9", "127.0.0.1:10").replace('"tcp"', '"tcp"\nmax_connections = 2'), OPS)
    assert house.address("api") == at
    assert house.asked_to_end == house.retired == ["api 127.0.0.1:9"]
    assert await before.is_served()
    assert (await house.call(at)).answered == "api 127.0.0.1:10"
    with socket.socket() as one_too_many:
        one_too_many.connect(at)
        one_too_many.setblocking(False)
        await trio.lowlevel.wait_readable(one_too_many)
        with pytest.raises(ConnectionResetError):
            one_too_many.recv(1)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("change", ["add", "move"])
async def test_an_address_in_use_changes_nothing_at_all(
    house: House, nursery: trio.Nursery, taken: str, change: str, tmp_path: Path
) -> None:
    await house.serve(API, OPS, nursery=nursery)
    api, ops, fresh = await house.call(house.address("api")), house.address("ops"), free_address()
    wanted = [inbound("new", fresh), outbound("l", f"unix:{tmp_path}/l")]
    wanted += [API, inbound("late", taken)] if change == "add" else [inbound("api", taken)]
    with pytest.raises(StartError, match="in use"):
        house.apply(*wanted)
    assert refuses(fresh)
    assert not (tmp_path / "l").exists()
    assert await api.is_served()
    assert (await house.call(ops)).answered == "ops 127.0.0.1:9"
    assert (house.retired, house.asked_to_end) == ([], [])
    assert repr(house.stations) == "<Stations [('inbound', 'api'), ('inbound', 'ops')] leaving=0>"
    nursery.cancel_scope.cancel()


async def test_a_listener_may_get_another_name(house: House, nursery: trio.Nursery, tmp_path: Path) -> None:
    at, path = free_address(), f"{tmp_path}/l"
    await house.serve(inbound("api", at), outbound("ledger", f"unix:{path}"), nursery=nursery)
    before = await house.call(sockaddr(at))
    house.apply(inbound("front", at), outbound("books", f"unix:{path}"))
    assert (await house.call(sockaddr(at))).answered == "front 127.0.0.1:9"
    assert (await house.call(path)).answered == "books /ledger"
    assert await before.is_served()
    house.apply(inbound("other", ANY))
    assert refuses(at)
    assert not there(path)
    nursery.cancel_scope.cancel()


async def test_two_listeners_may_change_places(house: House, nursery: trio.Nursery) -> None:
    here, there = free_address(), free_address()
    await house.serve(inbound("api", here), inbound("ops", there), nursery=nursery)
    house.apply(inbound("api", there), inbound("ops", here))
    assert (await house.call(sockaddr(here))).answered == "ops 127.0.0.1:9"
    assert (await house.call(sockaddr(there))).answered == "api 127.0.0.1:9"
    nursery.cancel_scope.cancel()


def there(path: str) -> bool:
    return Path(path).exists()


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def remove(path: Path) -> None:
    path.unlink()


async def test_the_mode_of_a_socket_follows_allow_uids(house: House, nursery: trio.Nursery, tmp_path: Path) -> None:
    path = f"{tmp_path}/l"
    group, checked = outbound("l", f"unix:{path}"), outbound("l", f"unix:{path}", more="allow_uids = [1000]")
    await house.serve(group, nursery=nursery)
    assert mode_of(path) == 0o660
    for tables, mode in ((checked, 0o666), (group, 0o660), (checked.replace('"l"', '"m"', 1), 0o666)):
        house.apply(tables)
        assert mode_of(path) == mode
    nursery.cancel_scope.cancel()


async def test_who_came_while_users_were_checked_is_checked(
    house: House, nursery: trio.Nursery, tmp_path: Path
) -> None:
    """Through a file for all: whoever waits there must not be taken for one of the group that may come now."""
    path = f"{tmp_path}/l"
    await house.serve(outbound("l", f"unix:{path}", more="allow_uids = [1000]"), nursery=nursery)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(path)
        house.apply(outbound("l", f"unix:{path}").replace("/ledger", "/other"))
        waiting.setblocking(False)
        await trio.lowlevel.wait_readable(waiting)
        assert waiting.recv(100) == b"l /ledger"
    assert (await house.call(path)).answered == "l /other"
    nursery.cancel_scope.cancel()


async def test_a_socket_file_that_somebody_removed_does_not_fail_a_change_in_the_middle(
    house: House, nursery: trio.Nursery, tmp_path: Path
) -> None:
    path = tmp_path / "l"
    await house.serve(API, outbound("l", f"unix:{path}"), nursery=nursery)
    remove(path)
    house.apply(API, outbound("l", f"unix:{path}", more="allow_uids = [1000]"), OPS)
    assert (await house.call(house.address("ops"))).answered == "ops 127.0.0.1:9"
    nursery.cancel_scope.cancel()


async def test_a_new_list_is_asked_about_what_is_open_and_what_has_moved_away(
    house: House, nursery: trio.Nursery
) -> None:
    await house.serve(API, OPS, nursery=nursery)
    call = Call("1", SpiffeId.parse("spiffe://mesh.test/web"), HOME)
    moved = Call("2", SpiffeId.parse("spiffe://mesh.test/web"), HOME)
    api, ops = (station.equipment.live for station in house.stations)
    open_still = await house.call(house.address("ops"))
    with api.registered(call), ops.registered(moved):
        house.apply(API, inbound("ops", free_address()))
        assert (call.cut, moved.cut) == ("", "")
        house.write("allow = []", file="web.allow.toml")
        house.apply(API, OPS)
        assert "no longer granted" in call.cut
        assert "no longer granted" in moved.cut
    assert house.value("meshproxy_authz_terminated_total", listener="api") == 1
    assert house.value("meshproxy_authz_terminated_total", listener="ops") == 1
    assert await open_still.is_served()
    nursery.cancel_scope.cancel()


async def test_the_end_of_a_grant_is_noticed_by_asking_again(house: House, nursery: trio.Nursery) -> None:
    house.write(WEB + "expires = 2026-11-02\n", file="web.allow.toml")
    await house.serve(API, nursery=nursery)
    call = Call("1", SpiffeId.parse("spiffe://mesh.test/web"), HOME)
    (station,) = house.stations
    with station.equipment.live.registered(call):
        assert house.stations.recheck() == 0
        house.wall.moved += _DAY
        assert house.stations.recheck() == 1
    assert "expired_grant" in call.cut
    nursery.cancel_scope.cancel()


# The drain.


async def test_a_drain_waits_for_the_moved_and_counts_what_it_had_to_cut(
    house: House, nursery: trio.Nursery, settling_clock: trio.testing.MockClock
) -> None:
    await house.serve(API, nursery=nursery)
    left_behind = await house.call(house.address("api"))
    house.apply(inbound("api", free_address()), within=10)
    house.stopping.set()
    await trio.sleep(9)
    assert house.nothing_cut is None
    assert await left_behind.is_served()
    await trio.sleep(2)
    assert house.nothing_cut is False


async def test_a_listener_added_in_the_turn_of_the_signal_is_drained_like_the_others(
    house: House, nursery: trio.Nursery
) -> None:
    await house.serve(API, nursery=nursery)
    house.stopping.set()
    house.apply(API, OPS, outbound("ledger", ANY))
    with trio.fail_after(5):
        while house.nothing_cut is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert house.nothing_cut


async def test_one_stopped_before_its_first_turn_ends_quietly(house: House, nursery: trio.Nursery) -> None:
    await house.serve(API, nursery=nursery)
    house.apply(API, OPS)
    house.apply(API)  # its task has not run yet
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert repr(house.stations) == "<Stations [('inbound', 'api')] leaving=0>"
    nursery.cancel_scope.cancel()
