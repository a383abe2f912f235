"""Workers led as one: lives that end as a test says, on its clock, and the sockets they would be handed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from meshproxy import __version__
from meshproxy.errors import FaultyInput, Problem, StartError
from meshproxy.runtime.control import Abort, Account, Answer, Drain, File, Report
from meshproxy.runtime.crew import Crew
from meshproxy.runtime.doorkeeper import Doorkeeper
from meshproxy.runtime.life import Life, Lost, Reply
from meshproxy.runtime.member import State
from meshproxy.settings.load import load_and_keep
from meshproxy.settings.plan import plan_reload
from meshproxy.telemetry.metrics import Metrics
from meshproxy.wire.address import UnixAddress
from tests.hearing import listening_log
from tests.runtime.conftest import WEB, inbound, outbound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from meshproxy.runtime.control import Order
    from meshproxy.settings.load import Configuration

ANY = "127.0.0.1:0"
PROBLEM = Problem("side.toml", "x", "y", "z")
SHOP = '[[allow]]\nfrom = "/shop"\n'


class Process:
    """A worker that exists in name only: it says what it is told to say."""

    def __init__(self, number: int, story: list[str]) -> None:
        self.name = f"{number + 1}"
        self.pid = 100 + number
        self.story = story
        self.version = __version__
        self.there = trio.Event()
        self.report: Report | None = None
        self.accounts: list[Account] = []
        self.nothing_cut = True
        self.boots = True
        self.refuses: tuple[Problem, ...] = ()
        self.hangs: set[str] = set()  # orders it does not answer
        self.dies_at = ""  # the order it does not survive
        self.generation = 0
        self._prepared = 0
        self._end = trio.Event()
        self._code = 0

    async def run(self) -> int:
        if self.boots:
            self.there.set()
        await self._end.wait()
        self.story.append(f"{self.name} ended")
        return self._code

    def end(self, code: int) -> None:
        self._code = code
        self._end.set()

    def kill(self) -> None:
        self.end(-9)

    def say(self, order: Order, _descriptors: Sequence[int] = ()) -> None:
        if not isinstance(order, File):
            self.story.append(f"{self.name} {type(order).__name__.lower()}")
        if isinstance(order, Drain):
            self.end(0)
        if isinstance(order, Abort):
            self._prepared = 0

    def prepare(self, generation: int, doors: Sequence[tuple[str, str]], descriptors: Sequence[int]) -> Reply:
        assert len(descriptors) == 2 * len(doors)
        self._prepared = generation
        self.story.append(f"{self.name} prepare {generation} {' '.join(name for _, name in doors)}".strip())
        return self._reply("prepare", Answer(1, self.refuses))

    def commit(self) -> Reply:
        self.generation = self._prepared
        self.story.append(f"{self.name} commit {self.generation}")
        return self._reply("commit", Answer(1))

    def tell(self) -> Reply:
        return self._reply("tell", self.report or Lost.SILENT)

    def _reply(self, order: str, word: Answer | Report | Lost) -> Reply:
        reply = Reply()
        if self.dies_at == order:
            self.end(-11)
            reply.come(Lost.GONE)
        elif order not in self.hangs:
            reply.come(word)
        return reply


@dataclass
class Lead:
    """A crew of two, and what it did."""

    home: Path
    begin: Callable[[int, Process], None] = lambda _number, _process: None  # what becomes of a new one
    lives: list[Process] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.log, self.heard = listening_log()
        self.write(inbound("api", ANY))
        (self.home / "web.allow.toml").write_text(WEB)
        self.configuration = self.load()
        self.doors = Doorkeeper(2)
        self.doors.open_all(self.configuration.settings)
        self.crew = Crew(self.configuration, self.doors, 2, self._begin, log=self.log, metrics=self.metrics)

    def write(self, *tables: str) -> None:
        (self.home / "side.toml").write_text('[identity]\ndir = "id"\n' + "".join(tables))

    def load(self, generation: int = 1) -> Configuration:
        return load_and_keep(self.home / "side.toml", generation=generation)

    def _begin(self, number: int) -> Life:
        process = Process(number, self.story)
        self.begin(number, process)
        self.lives.append(process)
        self.began.append(trio.current_time())
        return cast("Life", process)

    async def take_up(self, *tables: str, generation: int = 2) -> bool:
        """Write the settings and go over to them."""
        self.write(*tables)
        new = self.load(generation)
        plan = plan_reload(self.configuration.settings, new.settings)
        taken = await self.crew.take_up(plan, new, generation)
        if taken:
            self.configuration = new
        return taken

    def of(self, number: int) -> Process:
        """The last process in a place."""
        return [life for life in self.lives if life.name == f"{number}"][-1]

    @property
    def states(self) -> list[State]:
        return [member.state for member in self.crew.members]


@pytest.fixture
async def lead(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Lead]:
    made = Lead(tmp_path)
    yield made
    nursery.cancel_scope.cancel()
    made.doors.close_all()
    made.doors.remove_files()


@pytest.fixture
async def led(lead: Lead, nursery: trio.Nursery) -> Lead:
    nursery.start_soon(lead.crew.run)
    await lead.crew.started()
    lead.story.clear()
    return lead


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_each_is_handed_what_is_in_force_and_serves(
    lead: Lead, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(lead.crew.run)
    await lead.crew.started()
    assert sorted(lead.story) == ["1 commit 1", "1 prepare 1 api", "2 commit 1", "2 prepare 1 api"]
    assert lead.states == [State.SERVING, State.SERVING]


async def test_one_that_ends_is_started_again_ever_later_and_at_once_when_it_had_lived(
    led: Lead, autojump_clock: MockClock
) -> None:
    pauses = []
    for lived in (0, 0, 0, 0, 0, 0, 0, 0, 31, 0):
        await trio.sleep(lived)
        led.lives[-1].end(-11)
        ended = trio.current_time()
        await settle()
        assert sorted(led.states) == [State.SERVING, State.WAITING]
        await trio.sleep(6)
        pauses.append(round(led.began[-1] - ended, 1))
        assert led.states == [State.SERVING, State.SERVING]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1, 0.2]
    assert led.heard.named("worker_exited")[0]["how"] == "signal SIGSEGV"
    assert led.metrics.registry.get_sample_value("meshproxy_worker_restarts_total") == 10


async def test_all_go_over_together(led: Lead, autojump_clock: MockClock) -> None:
    assert await led.take_up(inbound("api", ANY), outbound("more", ANY))
    assert led.story == ["1 prepare 2 more", "2 prepare 2 more", "1 commit 2", "2 commit 2"]
    assert set(led.doors.kept) == {("inbound", "api"), ("outbound", "more")}
    led.of(1).end(1)
    await trio.sleep(1)
    assert led.story[-2:] == ["1 prepare 2 api more", "1 commit 2"]  # who comes later gets what is in force


async def test_when_one_refuses_none_goes_over(led: Lead, autojump_clock: MockClock) -> None:
    led.of(2).refuses = (PROBLEM,)
    api = led.doors.kept["inbound", "api"].listener.getsockname()
    with pytest.raises(FaultyInput) as refusal:
        await led.take_up(inbound("api", ANY), outbound("more", ANY))
    assert refusal.value.problems == (PROBLEM,)
    assert led.story == ["1 prepare 2 more", "2 prepare 2 more", "1 abort", "2 abort"]
    assert set(led.doors.kept) == {("inbound", "api")}
    assert led.doors.kept["inbound", "api"].listener.getsockname() == api
    led.of(1).end(1)
    await trio.sleep(1)
    assert led.story[-2:] == ["1 prepare 1 api", "1 commit 1"]


async def test_an_address_in_use_asks_nobody(led: Lead, autojump_clock: MockClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody, pytest.raises(StartError, match="in use"):
        await led.take_up(inbound("api", f"127.0.0.1:{somebody.getsockname()[1]}"))
    assert led.story == []


@pytest.mark.parametrize("order", ["prepare", "commit"])
async def test_who_dies_in_between_does_not_decide_and_comes_back_with_the_rest(
    led: Lead, autojump_clock: MockClock, order: str
) -> None:
    led.of(1).dies_at = order
    assert await led.take_up(inbound("api", ANY, more="max_connections = 7"))
    await trio.sleep(1)
    assert [member.generation for member in led.crew.members] == [2, 2]
    assert led.lives[-1].generation == 2


@pytest.mark.parametrize("order", ["prepare", "commit"])
async def test_who_hangs_is_ended_so_that_nobody_judges_by_the_old(
    led: Lead, autojump_clock: MockClock, order: str
) -> None:
    led.of(2).hangs = {order}
    before = trio.current_time()
    assert await led.take_up(inbound("api", ANY, more="max_connections = 7"))
    assert trio.current_time() - before == pytest.approx(30)
    await trio.sleep(1)
    assert [member.generation for member in led.crew.members] == [2, 2]
    assert led.heard.named("worker_silent")[0]["pid"] == 101
    assert led.heard.named("worker_exited")[0]["how"] == "signal SIGKILL"


async def test_one_that_starts_during_a_change_waits_for_it(
    led: Lead, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    led.of(2).hangs = {"commit"}
    nursery.start_soon(led.take_up, inbound("api", ANY, more="max_connections = 7"))
    await settle()
    led.of(1).end(1)
    await trio.sleep(10)
    assert led.states[0] is State.STARTING
    await trio.sleep(25)
    assert led.states == [State.SERVING, State.SERVING]
    assert {life.generation for life in led.lives[2:]} == {2}


async def test_a_drain_in_the_middle_of_a_change_keeps_what_was(
    led: Lead, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    led.of(2).hangs = {"prepare"}
    found = []

    async def change() -> None:
        found.append(await led.take_up(inbound("api", ANY, more="max_connections = 7")))

    nursery.start_soon(change)
    await settle()
    led.crew.drain()
    await trio.sleep(31)
    assert found == [False]
    assert "1 commit 2" not in led.story


async def test_a_drain_ends_all_starts_none_and_closes_the_sockets_first(led: Lead, autojump_clock: MockClock) -> None:
    at = led.doors.kept["inbound", "api"].listener.getsockname()
    led.crew.drain()
    with socket.socket() as caller:
        assert caller.connect_ex(at) != 0
    led.crew.drain()
    await trio.sleep(10)
    assert led.story[:2] == ["1 drain", "2 drain"]
    assert sorted(led.story[2:]) == ["1 ended", "2 ended"]
    assert led.states == [State.ENDED, State.ENDED]
    assert (len(led.lives), led.crew.nothing_cut) == (2, True)


async def test_one_that_waits_to_be_started_again_is_not_when_all_end(led: Lead, autojump_clock: MockClock) -> None:
    led.of(1).end(1)
    await settle()
    led.crew.drain()
    await trio.sleep(10)
    assert len(led.lives) == 2


async def test_who_ends_in_another_way_during_a_drain_has_cut_something(led: Lead, autojump_clock: MockClock) -> None:
    led.of(1).nothing_cut = False
    led.crew.drain()
    await trio.sleep(1)
    assert led.crew.nothing_cut is False


async def failing(lead: Lead, begin: Callable[[int, Process], None]) -> BaseException:
    """Run a crew whose processes `begin` as told, and return what comes of it."""
    lead.begin = begin
    with pytest.raises(BaseExceptionGroup) as found:
        await lead.crew.run()
    first: BaseException = found.value
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


async def test_a_fault_that_no_restart_mends_ends_the_start(lead: Lead, autojump_clock: MockClock) -> None:
    def refuse(_number: int, process: Process) -> None:
        process.refuses = (PROBLEM,)

    error = await failing(lead, refuse)
    assert isinstance(error, FaultyInput)
    assert error.problems == (PROBLEM,)


async def test_when_none_ever_comes_to_serve_it_gives_up(lead: Lead, autojump_clock: MockClock) -> None:
    def crash(_number: int, process: Process) -> None:
        process.boots = False
        process.end(1)

    error = await failing(lead, crash)
    assert isinstance(error, StartError)
    assert "no worker could be started: the last ended with exit code 1" in str(error)
    assert 3 <= len(lead.lives) <= 6


async def test_code_that_was_replaced_meanwhile_does_not_serve(lead: Lead, autojump_clock: MockClock) -> None:
    def renew(_number: int, process: Process) -> None:
        process.version = "99"

    error = await failing(lead, renew)
    assert "version 99 installed by now" in str(error)


async def test_a_process_that_cannot_be_made_is_tried_again(
    lead: Lead, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail_twice(_number: int, _process: Process) -> None:
        if len(lead.lives) == 1 and len(tries) < 2:
            tries.append(1)
            raise BlockingIOError(11, "Resource temporarily unavailable")

    tries: list[int] = []
    lead.begin = fail_twice
    nursery.start_soon(lead.crew.run)
    await trio.sleep(2)
    assert lead.states == [State.SERVING, State.SERVING]
    assert "it cannot be started: Resource" in lead.heard.named("worker_exited")[0]["how"]


async def test_one_that_never_says_hello_is_ended(lead: Lead, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def stand_still(number: int, process: Process) -> None:
        process.boots = number == 1

    lead.begin = stand_still
    nursery.start_soon(lead.crew.run)
    await trio.sleep(29)
    assert lead.states == [State.STARTING, State.SERVING]
    await trio.sleep(1.05)
    assert lead.states == [State.WAITING, State.SERVING]


async def test_files_of_unix_sockets_go_when_all_workers_have_let_go(
    lead: Lead, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """And stay open only as wide as old and new settings both want, until all have gone over."""
    path = lead.home / "out"
    checked = outbound("out", f"unix:{path}", more=f"allow_uids = [{os.getuid()}]")
    nursery.start_soon(lead.crew.run)
    await lead.crew.started()
    await lead.take_up(inbound("api", ANY), checked)
    assert path.stat().st_mode & 0o777 == 0o666
    lead.of(2).hangs = {"commit"}
    nursery.start_soon(
        lead.take_up,
        inbound("api", ANY),
        outbound("out", f"unix:{path}"),
    )
    await settle()
    assert path.stat().st_mode & 0o777 == 0o660
    await trio.sleep(40)
    assert await lead.take_up(inbound("api", ANY), generation=3)
    assert not path.exists()
    assert UnixAddress(str(path)) not in lead.doors.addresses.values()
