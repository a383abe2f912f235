"""The keeper over days that pass in milliseconds: a CA that is gone, clocks that jump, tokens that are spent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, cast

import pytest
import trio

from ca import keys, tokens
from ca.messages import Refusal
from ca.refusals import Why
from ca.spiffe_bundle import SpiffeBundle
from ca.spiffe_id import SpiffeId
from ca.svid import Leaf
from ca.tokens import JoinToken
from meshproxy.enroll.errand import Errands, News, Taken
from meshproxy.enroll.faults import RefusedByCa, Unreachable
from meshproxy.enroll.holding import Enrolment, Held, Holding
from meshproxy.enroll.keeper import Keeper
from meshproxy.enroll.keeping import Orders
from meshproxy.telemetry.metrics import Metrics
from meshproxy.wire.address import TcpAddress
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from meshproxy.enroll.judging import Believed

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = 24 * HOUR
MINUTE = timedelta(minutes=1)
KEY = keys.generate()
CA = TcpAddress("ca.test", 8440)
TOKEN = JoinToken(b"i" * 16, b"s" * 32, (b"p" * 32,))
OTHER_TOKEN = replace(TOKEN, id=b"j" * 16)


@dataclass
class World:
    """A wall clock that may be off the one that waiting goes by, and a CA that may be down."""

    off_by: timedelta = timedelta(0)
    down: bool = False
    refusal: Refusal | None = None
    taint: bool = False
    broken: bool = False
    ttl: timedelta = DAY
    held: Held | None = None
    enrolled_by: str = ""
    used: list[str] = field(default_factory=list)
    attempts: list[datetime] = field(default_factory=list)
    renewals: list[datetime] = field(default_factory=list)
    polls: list[datetime] = field(default_factory=list)
    serial: int = 0
    began: float = field(default_factory=trio.current_time)

    def wall(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() - self.began) + self.off_by

    def certify(self) -> Held:
        self.serial += 1
        now = self.wall()
        backdate = min(2 * MINUTE, self.ttl / 4)
        leaf = Leaf(
            SpiffeId.parse("spiffe://mesh.test/web"), self.serial, str(self.serial), now - backdate, now + self.ttl
        )
        self.held = Held(KEY, (), leaf, (), None)
        return self.held


class FakeErrands(Errands):
    """As `Errands`, without a CA and without a directory."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.holding = FakeHolding(world, directory)

    async def look(self) -> Held | None:
        await trio.lowlevel.checkpoint()
        return self.world.held

    async def enrol(self, token: JoinToken, given: object = ()) -> Taken:  # noqa: ARG002
        world = self.world
        world.attempts.append(world.wall())
        world.used.append(token.id.hex())
        await self._reach()
        if world.refusal is not None and token.id.hex() in [*world.used[:-1], TOKEN.id.hex()]:
            raise RefusedByCa(world.refusal)
        world.enrolled_by = token.id.hex()
        return Taken(world.certify())

    async def renew(self, leaf: str, given: object = ()) -> Taken:  # noqa: ARG002
        world = self.world
        world.attempts.append(world.wall())
        assert world.held is not None
        assert leaf == world.held.leaf.fingerprint
        await self._reach()
        if world.refusal is not None:
            raise RefusedByCa(world.refusal)
        world.renewals.append(world.wall())
        world.taint = False
        return Taken(world.certify())

    async def poll(self, given: object = ()) -> News:  # noqa: ARG002
        world = self.world
        world.polls.append(world.wall())
        await self._reach()
        assert world.held is not None
        believed = cast("Believed", FakeBelieved())
        return News(world.held, believed, world.taint)

    async def _reach(self) -> None:
        await trio.sleep(0.01)
        if self.world.broken:
            raise ZeroDivisionError
        if self.world.down:
            raise Unreachable("the CA at ca.test:8440 cannot be reached: connection refused")


class FakeHolding(Holding):
    def __init__(self, world: World, directory: Path) -> None:
        super().__init__(directory)
        self._world = world

    def enrolment(self) -> Enrolment:
        return Enrolment((), self._world.enrolled_by)


@dataclass
class FakeBelieved:
    sequence: int = 3
    bundle: SpiffeBundle = field(default_factory=lambda: SpiffeBundle((), 3, 60))


@dataclass
class Kept:
    keeper: Keeper
    world: World
    heard: Heard
    token_file: Path
    metrics: Metrics
    new: list[int]

    def result(self, word: str) -> float:
        return self.metrics.renewals.labels(word).value


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def kept(world: World, tmp_path: Path) -> Kept:
    """Without a token file: looking at one takes a thread, and a clock that jumps does not wait for threads."""
    return make(world, tmp_path, None)


@pytest.fixture
async def joining(world: World, tmp_path: Path) -> Kept:
    return make(world, tmp_path, tmp_path / "web.token")


def make(world: World, tmp_path: Path, token_file: Path | None) -> Kept:
    log, heard = listening_log()
    metrics, new = Metrics(), list[int]()

    async def on_new(held: Held) -> None:
        new.append(held.leaf.serial)

    errands = FakeErrands(world, tmp_path / "identity")
    orders = Orders((CA,), token_file)
    keeper = Keeper(errands, orders, wall=world.wall, log=log, metrics=metrics, dice=Random(7), on_new=on_new)
    return Kept(keeper, world, heard, token_file or tmp_path, metrics, new)


def put(file: Path, token: JoinToken) -> None:
    file.write_text(tokens.encode(token) + "\n")
    file.chmod(0o600)


async def test_days_pass_and_nobody_has_to_think_of_it(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    for _ in range(3 * 24):
        await trio.sleep(3600)
        assert world.held is not None
        assert world.held.leaf.not_after > world.wall()
    assert 5 <= len(world.renewals) <= 8
    apart = [later - earlier for earlier, later in zip(world.renewals, world.renewals[1:], strict=False)]
    assert all(9 * HOUR < each < 15 * HOUR for each in apart)
    assert kept.new == list(range(2, world.serial + 1))
    assert set(kept.heard.names) == {"identity_renewed", "trust_updated"}
    assert kept.result("renewed") == len(world.renewals)


async def test_the_ca_is_down_for_half_a_life_and_nobody_notices(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    held = world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(5 * 3600)
    world.down = True
    await trio.sleep(12 * 3600)
    assert world.held is held
    assert held.leaf.not_after > world.wall()
    state = kept.keeper.state
    assert state.failing_since is not None
    assert "connection refused" in state.last_error
    assert "ca serve" in state.remedy
    failed = kept.heard.named("renewal_failed")
    assert 60 < len(failed) <= 12 * 60  # once a minute at most
    assert "valid for another" in str(failed[0]["effect"])
    world.down = False
    back = world.wall()
    await trio.sleep(61)
    assert len(world.renewals) == 1
    assert world.renewals[0] - back <= MINUTE
    assert kept.keeper.state.last_error == ""
    assert "after_failing_for" in kept.heard.named("identity_renewed")[0]
    assert kept.heard.named("ca_reachable_again")


@pytest.mark.long
async def test_it_goes_on_for_ever_after_the_end_too(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    world.down = True
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(30 * 3600)
    assert world.attempts[-1] > world.wall() - 2 * MINUTE
    assert "expired" in str(kept.heard.named("renewal_failed")[-1]["effect"])
    world.down = False
    await trio.sleep(61)
    assert len(world.renewals) == 1


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(hours=14)])
async def test_a_suspended_machine_renews_as_soon_as_it_wakes(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock, jump: timedelta
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(3600)
    world.off_by = jump
    await trio.sleep(31)
    assert len(world.renewals) == 1


async def test_a_clock_that_is_set_back_holds_nobody_up(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    world.down = True
    await trio.sleep(16 * 3600)
    world.off_by = -3 * DAY
    before = len(world.attempts)
    await trio.sleep(120)
    assert len(world.attempts) > before


@pytest.mark.parametrize("off_by", [timedelta(minutes=5), timedelta(minutes=-5), timedelta(days=1)])
async def test_clocks_that_are_apart_do_not_make_a_storm(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock, off_by: timedelta
) -> None:
    """A leaf of minutes, and a clock so wrong that every one looks old: still no more than twenty in a life."""
    world.ttl = 10 * MINUTE
    certify = world.certify

    def certified_elsewhere() -> Held:
        held = certify()
        assert held is not None
        leaf = replace(held.leaf, not_before=held.leaf.not_before - off_by, not_after=held.leaf.not_after - off_by)
        world.held = replace(held, leaf=leaf)
        return world.held

    world.certify = certified_elsewhere  # type: ignore[method-assign]
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(600)
    assert len(world.attempts) <= 21


async def test_short_leaves_are_renewed_in_time_although_the_ca_hiccups(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.ttl = timedelta(seconds=30)
    world.certify()
    nursery.start_soon(kept.keeper.run)
    for tick in range(600):
        world.down = tick % 10 >= 5
        await trio.sleep(1)
        assert world.held is not None
        assert world.held.leaf.not_after > world.wall()
    assert 25 < len(world.renewals) < 70


async def test_it_waits_for_a_token_and_enrols_within_seconds(
    joining: Kept, world: World, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    nursery.start_soon(joining.keeper.run)
    await trio.sleep(120)
    assert world.attempts == []
    failed = joining.heard.named("enrolment_failed")
    assert f"there is no token file {joining.token_file}" in str(failed[0]["error"])
    assert f"meshproxy ca token create /PATH --ca ca.test:8440 --out {joining.token_file}" in str(failed[0]["remedy"])
    put(joining.token_file, TOKEN)
    await trio.sleep(3)
    assert world.enrolled_by == TOKEN.id.hex()
    assert joining.heard.named("identity_enrolled")
    assert joining.result("enrolled") == 1


async def test_a_token_others_may_read_is_not_used(
    joining: Kept, world: World, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    put(joining.token_file, TOKEN)
    joining.token_file.chmod(0o644)
    nursery.start_soon(joining.keeper.run)
    await trio.sleep(120)
    assert world.attempts == []
    assert "chmod 600" in joining.keeper.state.last_error
    assert tokens.encode(TOKEN) not in repr(joining.heard.events)
    joining.token_file.chmod(0o600)
    await trio.sleep(3)
    assert world.held is not None


async def test_a_spent_token_is_tried_once_and_a_new_one_at_once(
    joining: Kept, world: World, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    world.refusal = Refusal("this token was used by 10.0.0.9", 409, Why.TOKEN_USED)
    put(joining.token_file, TOKEN)
    nursery.start_soon(joining.keeper.run)
    await trio.sleep(100)
    assert world.used == [TOKEN.id.hex()]
    assert "used by 10.0.0.9" in joining.keeper.state.last_error
    assert "meshproxy ca token create" in joining.keeper.state.remedy
    put(joining.token_file, OTHER_TOKEN)
    await trio.sleep(3)
    assert world.enrolled_by == OTHER_TOKEN.id.hex()


async def test_who_is_renewed_no_more_enrols_with_a_new_token(
    joining: Kept, world: World, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    world.ttl = 10 * MINUTE
    world.certify()
    world.enrolled_by = TOKEN.id.hex()
    put(joining.token_file, TOKEN)
    world.refusal = Refusal("this certificate was copied", 409, Why.SUSPECT)
    nursery.start_soon(joining.keeper.run)
    await trio.sleep(1200)
    assert world.used == []  # the token we came with is of no use
    assert 2 < len(world.attempts) < 6  # and nobody is alarmed every second
    put(joining.token_file, OTHER_TOKEN)
    await trio.sleep(3)
    assert world.enrolled_by == OTHER_TOKEN.id.hex()


async def test_the_ca_asks_for_patience_and_gets_it(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    world.refusal = Refusal("too many", 429, "too_many_requests", retry_after=40.0)
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(16 * 3600)
    apart = [later - earlier for earlier, later in zip(world.attempts, world.attempts[1:], strict=False)]
    assert min(apart) >= timedelta(seconds=40)


async def test_renew_now_is_heard_and_spread_over_a_tenth_of_life(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(600)
    world.taint = True
    asked = world.wall()
    await trio.sleep(2.5 * 3600)
    assert len(world.renewals) == 1
    assert world.renewals[0] - asked <= 2.5 * HOUR
    assert len(kept.heard.named("renewal_asked_for")) == 1


async def test_it_polls_every_refresh_hint_give_or_take_a_fifth(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(7200)
    apart = [(later - earlier).total_seconds() for earlier, later in zip(world.polls, world.polls[1:], strict=False)]
    assert 48 <= min(apart) < 52
    assert 68 < max(apart) <= 73
    assert kept.heard.names.count("trust_updated") == 1


async def test_a_ca_that_does_not_answer_polls_is_told_once(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(300)
    world.down = True
    await trio.sleep(3600)
    assert kept.heard.names.count("trust_poll_failed") == 1
    assert kept.keeper.state.trust_error


async def test_a_bug_ends_nothing(kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world.certify()
    world.broken = True
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(16 * 3600)
    assert "internal_error" in kept.heard.names
    world.broken = False
    await trio.sleep(120)
    assert len(world.renewals) == 1


async def test_the_gauges_follow_the_clock(
    kept: Kept, world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.certify()
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(3600)
    kept.metrics.refresh()
    assert 8 * 3600 < kept.metrics.renewal_planned.labels().value < 14 * 3600
    assert 0 <= kept.metrics.trust_age.labels().value <= 80
    assert kept.metrics.bundle_known.labels().value == 3


@pytest.mark.long
async def test_many_keepers_after_an_outage_do_not_come_at_once(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Their CA was down for most of their lives; in no second after it is back do more than a few come."""
    worlds = []
    for number in range(60):
        each = World(ttl=HOUR)
        each.certify()
        each.down = True
        log, _ = listening_log()
        errands, dice = FakeErrands(each, tmp_path), Random(number)
        keeper = Keeper(errands, Orders((CA,)), wall=each.wall, log=log, metrics=Metrics(), dice=dice)
        nursery.start_soon(keeper.run)
        worlds.append(each)
    await trio.sleep(50 * 60)
    for each in worlds:
        each.down = False
    back = worlds[0].wall()
    await trio.sleep(70)
    came = sorted((each.renewals[0] - back).total_seconds() for each in worlds)
    assert len(came) == 60
    assert max(sum(1 for time in came if second <= time < second + 1) for second in range(61)) < 12
