"""Files that change under a running sidecar: one transaction, or the last good stays; on a clock of the test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.inbound.live import Call
from meshproxy.runtime.reload import Reloader, Result
from meshproxy.watching import signature_of
from tests.runtime.conftest import WEB, House, inbound, outbound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from meshproxy.settings.load import Configuration

ANY = "127.0.0.1:0"
API = inbound("api", ANY)
SHOP = '[[allow]]\nfrom = "/shop"\n'
HTTP = inbound("api", ANY, protocol="http")
HOME = TrustDomain("mesh.test")
IN_TIME = 3.5  # seconds until a change must have been taken up: two looks, and a beat
HOLD = 10


@dataclass
class Followed:
    """A house whose files are followed."""

    house: House
    reloader: Reloader

    def write(self, text: str, *, file: str = "web.allow.toml") -> None:
        self.house.write(text, file=file)

    async def settle(self, seconds: float = IN_TIME) -> None:
        await trio.sleep(seconds)

    @property
    def generation(self) -> int:
        return self.reloader.state.generation

    @property
    def error(self) -> str:
        return self.reloader.state.last_error

    def grants(self, caller: str) -> bool:
        """Whether the list that is in force lets a stream of this caller go on."""
        (station,) = self.house.stations.of("inbound")
        assert station.equipment.authorizer is not None
        return not station.equipment.authorizer.objection(call(caller), self.house.wall())

    def told(self, event: str) -> int:
        return len(self.house.heard.named(event))

    def attempts(self, result: Result) -> float:
        return self.house.value("meshproxy_reloads_total", result=result) or 0


def call(caller: str) -> Call:
    return Call("1", SpiffeId.parse(f"spiffe://mesh.test{caller}"), HOME)


class Threads:
    """What would run in threads, run in between two turns of the loop: the clock of a test does not wait for threads.

    `meanwhile` is done once behind each load of the files, before its task goes on.
    """

    def __init__(self) -> None:
        self.loads = count()
        self.at_once = self.most_at_once = 0
        self.meanwhile: Callable[[], None] = _nothing

    async def run_sync(self, work: Callable[..., object], *arguments: object, **_how: object) -> object:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.lowlevel.checkpoint()
        try:
            return work(*arguments)
        finally:
            self.at_once -= 1
            if work is not signature_of:
                self.meanwhile()
            await trio.lowlevel.checkpoint()


def _nothing() -> None:
    """Nothing happens meanwhile."""


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()
    monkeypatch.setattr(trio.to_thread, "run_sync", threads.run_sync)
    return threads


@pytest.fixture
def tables() -> tuple[str, ...]:
    return (API,)


@pytest.fixture
async def followed(house: House, nursery: trio.Nursery, tables: tuple[str, ...]) -> AsyncIterator[Followed]:
    await house.serve(*tables, nursery=nursery)
    path = house.directory / "sidecar.toml"
    reloader = Reloader(
        path, house.configuration, house.stations, wall=house.wall, log=house.log, metrics=house.metrics
    )
    nursery.start_soon(reloader.watch)
    nursery.start_soon(reloader.grants.follow)
    yield Followed(house, reloader)
    nursery.cancel_scope.cancel()


async def test_a_change_is_taken_up_and_told(followed: Followed, settling_clock: MockClock) -> None:
    await followed.settle()
    assert (followed.generation, followed.told("reloaded")) == (1, 0)  # nothing has changed
    followed.write(SHOP)
    await followed.settle()
    assert (followed.grants("/web"), followed.grants("/shop")) == (False, True)
    assert (followed.generation, followed.told("reloaded")) == (2, 1)
    assert followed.house.value("meshproxy_configuration_generation") == 2
    state = followed.reloader.state
    assert state.loaded_at == state.last_attempt_at > "2026-11-01T00:00:03"


async def test_what_changed_before_the_watch_began_is_not_missed(
    house: House, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    await house.serve(API, nursery=nursery)
    path = house.directory / "sidecar.toml"
    reloader = Reloader(
        path, house.configuration, house.stations, wall=house.wall, log=house.log, metrics=house.metrics
    )
    house.write(SHOP, file="web.allow.toml")
    nursery.start_soon(reloader.watch)
    await trio.sleep(IN_TIME)
    assert reloader.state.generation == 2
    nursery.cancel_scope.cancel()


async def test_a_file_that_keeps_changing_is_waited_for_until_it_is_still(
    followed: Followed, settling_clock: MockClock
) -> None:
    await followed.settle()
    for number in range(12):
        followed.write(SHOP + f'name = "r{number}"\n')
        await trio.sleep(0.7)
    assert followed.generation == 1
    await followed.settle()
    assert followed.generation == 2


async def test_the_same_content_again_changes_nothing(followed: Followed, settling_clock: MockClock) -> None:
    await followed.settle()
    followed.write(WEB)
    await followed.settle()
    assert followed.generation == 1
    assert followed.attempts(Result.UNCHANGED) >= 1
    assert followed.told("reloaded") == 0


async def test_a_broken_file_keeps_the_last_good_is_told_once_and_heals(
    followed: Followed, settling_clock: MockClock
) -> None:
    await followed.settle()
    followed.write('[[allow]]\nfrom = "web"\n')
    await followed.settle(60)
    assert (followed.generation, followed.grants("/web")) == (1, True)
    assert followed.told("reload_failed") == 1
    (event,) = followed.house.heard.named("reload_failed")
    assert "web.allow.toml:2" in event["error"]
    assert event["kept_generation"] == 1
    assert followed.error == event["error"]
    assert followed.house.value("meshproxy_reload_failing") == 1
    followed.write(SHOP)
    await followed.settle()
    assert (followed.generation, followed.error, followed.grants("/shop")) == (2, "", True)
    assert followed.house.value("meshproxy_reload_failing") == 0


async def test_what_is_put_back_as_it_was_heals_too_and_says_so(followed: Followed, settling_clock: MockClock) -> None:
    followed.write("[[allow")
    await followed.settle()
    assert followed.error
    followed.write(WEB)
    await followed.settle()
    assert (followed.generation, followed.error, followed.told("reload_healed")) == (1, "", 1)


def delete(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lost_to_others(path: Path) -> None:
    path.chmod(0o666)


def mend(path: Path) -> None:
    if path.is_dir():
        path.rmdir()


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (delete, "web.allow.toml"),
        (directory, "web.allow.toml"),
        (lost_to_others, "web.allow.toml"),
        (delete, "sidecar.toml"),
        (directory, "sidecar.toml"),
    ],
)
async def test_whatever_happens_to_a_file_the_last_good_stays_and_heals(
    followed: Followed, settling_clock: MockClock, harm: Callable[[Path], None], file: str
) -> None:
    path = followed.house.directory / file
    text = path.read_text()
    await followed.settle()
    harm(path)
    await followed.settle()
    assert followed.error
    assert (followed.generation, followed.grants("/web")) == (1, True)
    mend(path)
    path.write_text(text)
    path.chmod(0o644)
    await followed.settle(20)
    assert followed.error == ""
    assert followed.house.heard.named("internal_error") == []


async def test_the_mode_of_a_directory_heals_though_no_file_has_changed(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.write(SHOP)
    followed.house.directory.chmod(0o777)
    await followed.settle()
    assert "writable" in followed.error
    followed.house.directory.chmod(0o755)
    await followed.settle(2 * HOLD)
    assert (followed.error, followed.generation) == ("", 2)


async def test_a_list_that_is_missing_yet_is_waited_for(followed: Followed, settling_clock: MockClock) -> None:
    followed.house.write(inbound("api", ANY, policy="new.allow.toml"))
    await followed.settle()
    assert "new.allow.toml" in followed.error
    followed.write(SHOP, file="new.allow.toml")
    await followed.settle()
    assert (followed.error, followed.grants("/shop")) == ("", True)


async def test_a_swap_of_directories_is_followed(
    house: House, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    """As Kubernetes mounts a ConfigMap; the old directory is removed at once."""
    root = house.directory
    _mount(root, "..1", WEB)
    await house.serve(inbound("api", ANY, policy="mounted.allow.toml"), nursery=nursery)
    reloader = Reloader(
        root / "sidecar.toml",
        house.configuration,
        house.stations,
        wall=house.wall,
        log=house.log,
        metrics=house.metrics,
    )
    nursery.start_soon(reloader.watch)
    for number in range(2, 6):
        _mount(root, f"..{number}", (WEB, SHOP)[number % 2] + f'name = "r{number}"\n')
        _remove_tree(root / f"..{number - 1}")
        await trio.sleep(IN_TIME)
        assert (reloader.state.generation, reloader.state.last_error) == (number, "")
    nursery.cancel_scope.cancel()


def _mount(root: Path, name: str, text: str) -> None:
    (root / name).mkdir(mode=0o755)
    (root / name / "mounted.allow.toml").write_text(text)
    (root / name / "mounted.allow.toml").chmod(0o644)
    (root / "..tmp").symlink_to(name)
    (root / "..tmp").rename(root / "..data")
    if not (root / "mounted.allow.toml").is_symlink():
        (root / "mounted.allow.toml").symlink_to("..data/mounted.allow.toml")


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path)


async def test_a_new_address_in_use_is_told_and_taken_up_when_it_is_free(
    followed: Followed, settling_clock: MockClock, tmp_path: Path
) -> None:
    with trio.socket.socket() as somebody:
        await somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        at = f"127.0.0.1:{somebody.getsockname()[1]}"
        followed.house.write(API, inbound("ops", at))
        await followed.settle(30)
        assert "in use" in followed.error
        assert (followed.generation, followed.told("reload_failed")) == (1, 1)
    await followed.settle(2 * HOLD)
    assert (followed.generation, followed.error) == (2, "")
    assert (await followed.house.call(followed.house.address("ops"))).answered == "ops 127.0.0.1:9"


async def test_what_needs_a_restart_is_refused_and_nothing_else_taken_up(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.house.write('[admin]\nlisten = "127.0.0.1:9911"\n', API, outbound("ledger", ANY))
    followed.write(SHOP)
    await followed.settle()
    assert "another [admin]" in followed.error
    assert "restart the sidecar" in followed.error
    assert (followed.generation, followed.grants("/web")) == (1, True)
    followed.house.write(API)
    await followed.settle()
    assert (followed.generation, followed.error, followed.grants("/shop")) == (2, "", True)


# Files that are being written in place.


@pytest.mark.parametrize("tables", [(HTTP,)])
async def test_a_rule_that_may_be_cut_is_held_told_once_and_taken_up_in_the_end(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.write(SHOP)
    await followed.settle(HOLD - 2)
    assert (followed.generation, followed.told("reload_held")) == (1, 1)
    (event,) = followed.house.heard.named("reload_held")
    assert event["rule"].endswith("web.allow.toml:1")
    assert followed.attempts(Result.HELD) == 1
    await followed.settle(8)
    assert (followed.generation, followed.grants("/shop")) == (2, True)


@pytest.mark.parametrize("tables", [(HTTP,)])
async def test_a_rule_that_has_lost_its_conditions_waits_for_a_person(
    followed: Followed, settling_clock: MockClock
) -> None:
    """A full disk or a killed writer leaves a cut file behind for good: no time makes it whole."""
    followed.write(SHOP + 'methods = "GET"\npaths = "/a"\n')
    await followed.settle()
    assert followed.generation == 2
    followed.write(SHOP)
    await followed.settle(10 * HOLD)
    assert (followed.generation, followed.told("reload_held")) == (2, 1)
    followed.reloader.look_now()
    await followed.settle(0.5)
    assert followed.generation == 3


@pytest.mark.parametrize("tables", [(HTTP,)])
async def test_who_means_it_need_not_wait(followed: Followed, settling_clock: MockClock) -> None:
    followed.write(SHOP)
    await followed.settle()
    assert followed.generation == 1
    followed.reloader.look_now()
    await followed.settle(0.5)
    assert followed.generation == 2


@pytest.mark.parametrize("tables", [(HTTP,)])
async def test_a_held_file_that_is_completed_is_taken_up_without_more_waiting(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.write(SHOP)
    await followed.settle()
    followed.write(SHOP + 'methods = "GET"\npaths = "/a"\n')
    await followed.settle()
    assert followed.generation == 2
    await followed.settle(2 * HOLD)
    assert followed.generation == 2


GUARDED = outbound("l", "unix:l.sock", more="allow_uids = [1000]")


@pytest.mark.parametrize("tables", [(API, GUARDED)])
async def test_settings_cut_before_allow_uids_are_held(followed: Followed, settling_clock: MockClock) -> None:
    followed.house.write(API, GUARDED.partition("allow_uids")[0])
    await followed.settle(HOLD - 2)
    assert followed.generation == 1
    (event,) = followed.house.heard.named("reload_held")
    assert event["rule"].endswith('sidecar.toml: allow_uids of outbound "l"')
    followed.house.write(API, GUARDED)
    await followed.settle(2 * HOLD)
    assert followed.generation == 1


OLD = '[[allow]]\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/a"]\n'
NEW = '[[allow]]\nfrom = ["/shop"]\nmethods = ["POST"]\npaths = ["/a"]\n\n[[allow]]\nfrom = "/web"\nmethods = "GET"\n'
REQUESTS = [(who, how, what) for who in ("/web", "/shop") for how in ("GET", "POST", "PUT") for what in ("/a", "/b")]


@pytest.mark.parametrize("tables", [(HTTP,)])
async def test_no_prefix_of_a_list_written_in_place_is_ever_wider(
    house: House, nursery: trio.Nursery, settling_clock: MockClock, tables: tuple[str, ...]
) -> None:
    def granted() -> set[tuple[str, str, str]]:
        (station,) = house.stations
        judge = station.equipment.authorizer
        assert judge is not None
        found = set()
        for who, how, what in REQUESTS:
            asked = Call("1", SpiffeId.parse(f"spiffe://mesh.test{who}"), HOME, (how, what))
            if not judge.objection(asked, house.wall()):
                found.add((who, how, what))
        return found

    house.write(OLD, file="web.allow.toml")
    await house.serve(*tables, nursery=nursery)
    path = house.directory / "sidecar.toml"
    reloader = Reloader(
        path, house.configuration, house.stations, wall=house.wall, log=house.log, metrics=house.metrics
    )
    allowed = granted() | {("/shop", "POST", "/a"), ("/web", "GET", "/b")}
    for length in range(len(NEW)):
        house.write(NEW[:length], file="web.allow.toml")
        await reloader.reload(patient=True)
        assert granted() <= allowed, NEW[:length]
    house.write(NEW, file="web.allow.toml")
    assert await reloader.reload(patient=False) in {Result.LOADED, Result.UNCHANGED}
    assert granted() == {("/shop", "POST", "/a"), ("/web", "GET", "/a"), ("/web", "GET", "/b")}
    nursery.cancel_scope.cancel()


# Loading takes time, in which things happen.


async def test_what_changes_while_it_is_read_is_not_missed(
    followed: Followed, settling_clock: MockClock, threads: Threads
) -> None:
    await followed.settle()
    threads.meanwhile = lambda: followed.write(SHOP) if next(threads.loads) == 0 else None
    followed.write(WEB + 'name = "other"\n')
    await followed.settle(2 * IN_TIME)
    assert (followed.generation, followed.grants("/shop")) == (3, True)


async def test_a_drain_that_begins_while_files_are_read_stops_the_reload(
    followed: Followed, settling_clock: MockClock, threads: Threads
) -> None:
    await followed.settle()
    threads.meanwhile = followed.reloader.stop
    followed.house.write(API, inbound("ops", ANY))
    assert await followed.reloader.reload(patient=False) is Result.DRAINING
    assert [station.settings.name for station in followed.house.stations] == ["api"]
    assert await followed.reloader.reload(patient=False) is Result.DRAINING
    followed.write(SHOP)
    followed.reloader.look_now()
    await followed.settle()
    assert followed.generation == 1


async def test_those_who_ask_at_once_are_served_one_after_another(
    followed: Followed, settling_clock: MockClock, threads: Threads
) -> None:
    results: list[Result] = []

    async def ask() -> None:
        results.append(await followed.reloader.reload(patient=False))

    followed.write(SHOP)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
            followed.reloader.look_now()
    assert set(results) <= {Result.LOADED, Result.UNCHANGED}
    assert (followed.generation, threads.most_at_once) == (2, 1)


async def test_a_bug_in_loading_keeps_the_last_good_and_the_sidecar(
    followed: Followed, settling_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_more: object) -> Configuration:
        raise ZeroDivisionError

    monkeypatch.setattr(followed.reloader, "_load", broken)
    assert await followed.reloader.reload(patient=False) is Result.FAILED
    assert "internal error (ZeroDivisionError)" in followed.error
    monkeypatch.undo()
    followed.write(SHOP)
    await followed.settle()
    assert (followed.generation, followed.error) == (2, "")
    followed.house.heard.forget()


async def test_who_asks_in_person_is_told_each_time(followed: Followed, settling_clock: MockClock) -> None:
    followed.write("[[allow")
    await followed.settle()
    assert followed.told("reload_failed") == 1
    followed.reloader.look_now()
    await followed.settle(0.5)
    assert followed.told("reload_failed") == 2


# Grants that end.


async def test_a_grant_ends_without_a_reload(followed: Followed, settling_clock: MockClock) -> None:
    followed.write(WEB + "expires = 2026-11-01T00:01:00Z\n")
    await followed.settle()
    live = call("/web")
    (station,) = followed.house.stations
    with station.equipment.live.registered(live):
        await followed.settle(50)
        assert live.cut == ""
        await followed.settle(15)
        assert "expired_grant" in live.cut
    assert (followed.generation, followed.told("grant_expired")) == (2, 1)


async def test_a_wall_clock_that_jumps_ends_grants_and_nothing_else(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.write(WEB + "expires = 2026-11-01T01:00:00Z\n")
    await followed.settle()
    first, second = call("/web"), call("/web")
    (station,) = followed.house.stations
    with station.equipment.live.registered(first), station.equipment.live.registered(second):
        followed.house.wall.moved -= timedelta(days=400)
        await followed.settle()
        assert first.cut == ""
        followed.house.wall.moved += timedelta(days=401)
        await followed.settle()
        assert "expired_grant" in first.cut
        assert "expired_grant" in second.cut


async def test_a_file_system_that_hangs_does_not_prolong_a_grant(
    followed: Followed, settling_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.write(WEB + "expires = 2026-11-01T00:01:00Z\n")
    await followed.settle()

    async def hangs() -> None:
        async with followed.reloader._one_at_a_time:
            await trio.sleep_forever()

    live = call("/web")
    (station,) = followed.house.stations
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hangs)
        with station.equipment.live.registered(live):
            followed.reloader.look_now()
            await followed.settle(70)
            assert "expired_grant" in live.cut
        nursery.cancel_scope.cancel()


async def test_a_grant_is_spoken_of_two_weeks_and_a_day_before_it_ends(
    followed: Followed, settling_clock: MockClock
) -> None:
    followed.write(WEB + 'owner = "team-web"\nexpires = 2026-12-01\n')
    await followed.settle()
    assert followed.told("grant_expires") == 0
    followed.house.wall.moved = timedelta(days=16)
    await followed.settle(60)
    (first,) = followed.house.heard.named("grant_expires")
    assert (first["rule"], first["owner"], first["left"]) == ("rule-1", "team-web", "13d 23h")
    assert first["policy"].endswith("web.allow.toml:1")
    followed.house.wall.moved = timedelta(days=29)
    await followed.settle(60)
    assert followed.told("grant_expires") == 2
    followed.write(WEB + 'owner = "team-pay"\nexpires = 2026-12-01\n')  # once for each load
    await followed.settle()
    assert followed.told("grant_expires") == 3
    followed.house.wall.moved = timedelta(days=31)
    await followed.settle()
    assert (followed.told("grant_expires"), followed.told("grant_expired")) == (3, 1)


async def test_grants_that_end_together_are_told_of_at_a_bounded_pace_and_the_first_first(
    followed: Followed, settling_clock: MockClock
) -> None:
    rules = [WEB + f"expires = 2026-11-{2 + number % 9:02}\n" for number in range(25)]
    followed.write("".join(rules))
    await followed.settle()
    at_once = followed.told("grant_expires")
    await followed.settle(1)
    assert followed.told("grant_expires") - at_once <= 10
    await followed.settle(10)
    ends = [event["expires"] for event in followed.house.heard.named("grant_expires")]
    assert (len(ends), ends) == (25, sorted(ends))


async def test_unused_rules_are_derived_from_what_is_counted(followed: Followed, settling_clock: MockClock) -> None:
    followed.write(WEB + 'name = "used"\n' + SHOP + 'name = "spare"\n')
    await followed.settle()
    recorder = followed.house.recorder
    (station,) = followed.house.stations
    assert station.equipment.authorizer is not None
    policy = station.equipment.authorizer.policy.value

    def unused() -> list[list[str]]:
        granted = recorder.listener("api").granted
        assert granted is not None
        return list(station.usage.unused(policy, granted, followed.house.wall()).values())

    assert unused() == [["used", "spare"]]
    recorder.decided("api", "allow", rule="used", mode="enforce", reason="granted")
    recorder.decided("ops", "allow", rule="spare", mode="enforce", reason="granted")
    recorder.decided("api", "deny", rule="", mode="enforce", reason="no_rule")
    assert unused() == [["spare"]]
