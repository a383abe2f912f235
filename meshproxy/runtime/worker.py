"""One of several processes that serve: it does what the supervisor says, and ends when that is gone.

It has the data path, its own identity and engine; listening sockets and the contents of the files are handed to it. So
a worker that is started again has what all others have, whatever the files say by now.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from meshproxy import __version__
from meshproxy.errors import FaultyInput, Problem, StartError
from meshproxy.runtime.build import House, settle
from meshproxy.runtime.control import (
    Abort,
    Account,
    Answer,
    Broken,
    Commit,
    Cut,
    Drain,
    Ended,
    File,
    Hello,
    LookAtIdentity,
    Prepare,
    Recount,
    Report,
    Roster,
    SetLogLevel,
    Tell,
    WhoIsThere,
)
from meshproxy.runtime.doors import HandedDoors
from meshproxy.runtime.drain import Ending, serve_until_drained
from meshproxy.runtime.grants import Grants
from meshproxy.runtime.reload import ReloadState, hash_of
from meshproxy.runtime.scrape import samples_of
from meshproxy.runtime.stations import idle_grace
from meshproxy.runtime.telling import wall_clock
from meshproxy.runtime.views import Views
from meshproxy.settings.load import load_kept
from meshproxy.settings.plan import plan_reload
from meshproxy.telemetry.access import timestamp
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from meshproxy.policy.document import Rule
    from meshproxy.runtime.control import Channel, Order
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration

_LAST_WORDS = 2.0  # seconds for the supervisor to hear them


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many workers this is; counted from 0. `shift`: see `Origin`."""

    number: int
    of: int
    shift: int = 0

    def __str__(self) -> str:
        """Return it in one word, for the command line: as a person counts."""
        return f"{self.number + 1}/{self.of}{'+' * self.shift}"

    @classmethod
    def parse(cls, word: str) -> Place:
        """Read that word."""
        number, _, of = word.rstrip("+").partition("/")
        return cls(int(number) - 1, int(of), word.count("+"))


@dataclass(frozen=True, slots=True)
class _Prepared:
    configuration: Configuration
    generation: int


class Worker:
    """One worker: closed until the first `Commit`, serving from then on."""

    def __init__(self, file: str, place: Place, channel: Channel[Order], telling: Telling) -> None:
        self._file = file
        self._channel = channel
        self._telling = telling
        self._number = place.number + 1 if place.of > 1 else None
        self._shift = place.shift
        self._doors = HandedDoors(place.number, place.of)
        self._contents: dict[Path, bytes] = {}
        self._prepared: _Prepared | None = None
        self._house: House | None = None
        self._serving: _Serving | None = None
        self._stopping = trio.Event()
        self._orphaned = False
        self._handed_over = False
        self._nothing_cut = False

    def __repr__(self) -> str:
        return f"<Worker serving={self._serving is not None} orphaned={self._orphaned}>"

    async def run(self) -> bool:
        """Serve until told to end, or alone; returns whether nothing had to be cut."""
        try:
            self._channel.say(Hello(__version__))
            async with trio.open_nursery() as speaking:
                speaking.start_soon(self._channel.run)
                async with trio.open_nursery() as life:
                    life.start_soon(self._obey, life)
                if not self._orphaned:
                    await self._say_last()
                speaking.cancel_scope.cancel()
        finally:
            if self._house is not None:
                self._house.close()
            self._doors.forget()
            self._channel.close()
        return self._nothing_cut

    async def _say_last(self) -> None:
        serving = self._serving
        last = Ended(False) if serving is None else Ended(False, serving.report(0), serving.account(0))
        self._channel.say(msgspec.structs.replace(last, nothing_cut=self._nothing_cut))
        with trio.move_on_after(_LAST_WORDS):
            await self._channel.flush()

    async def _obey(self, life: trio.Nursery) -> None:
        with contextlib.suppress(Broken):  # one that breaks off in the middle of a frame is as good as gone
            while (order := await self._channel.hear()) is not None:
                await self._do(order, life)
        self._orphaned = True
        if self._serving is None:
            life.cancel_scope.cancel()
            return
        self._telling.log.warning("draining", reason="the supervisor is gone")
        self._serving.let_go()
        self._stopping.set()

    async def _do(self, order: Order, life: trio.Nursery) -> None:
        match order:
            case Tell() | Recount() | WhoIsThere():
                if self._serving is not None:  # else it is asked before there is anything to tell
                    self._channel.say(_answer(order, self._serving))
            case File(path, content):
                self._contents[Path(os.fsdecode(path))] = content
            case Prepare():
                self._channel.say(Answer(order.id, await self._prepare(order)))
            case Commit():
                await self._commit(life)
                self._channel.say(Answer(order.id))
            case Abort():
                self._prepared = None
                self._doors.forget()
            case LookAtIdentity():
                if self._house is not None:  # else there is nothing to look at yet
                    self._house.identity.look_now()
            case _:
                self._obey_at_once(order, life)

    def _obey_at_once(self, order: SetLogLevel | Drain | Cut, life: trio.Nursery) -> None:
        match order:
            case SetLogLevel(level):
                self._telling.log_level.set(level)
            case Drain(handed_over):
                self._handed_over = handed_over
                self._stopping.set()
            case Cut():
                life.cancel_scope.cancel()

    async def _prepare(self, order: Prepare) -> tuple[Problem, ...]:
        contents, self._contents = self._contents, {}
        load = partial(load_kept, Path(self._file), contents, generation=order.generation)
        try:
            self._doors.receive(order.doors, self._channel.take_descriptors())
            configuration = await in_thread(load, abandon_on_cancel=True)
            if self._house is None:
                self._house = House.furnish(
                    configuration.settings,
                    self._telling.recorder(trio.current_time, configuration.settings.telemetry),
                    self._doors,
                    wall_clock,
                    worker=self._number,
                    shift=self._shift,
                )
        except FaultyInput as faulty:
            self._doors.forget()
            return faulty.problems
        except StartError as error:
            return (Problem(self._file, str(error), "all that was sent", "raise the limit of open files (ulimit -n)"),)
        self._prepared = _Prepared(configuration, order.generation)
        return ()

    async def _commit(self, life: trio.Nursery) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is None or self._house is None or self._stopping.is_set():
            return
        if self._serving is not None:
            self._serving.take_up(prepared)
            return
        self._house.stations.bind_all(prepared.configuration)
        self._serving = _Serving(self._file, self._house, prepared, self._telling)
        await self._house.live_in(life)
        settle()
        await life.start(self._serve, life, self._serving)

    async def _serve(
        self, life: trio.Nursery, serving: _Serving, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        def begin() -> Ending:
            serving.views.phase.draining = True
            runtime = serving.configuration.settings.runtime
            if self._orphaned:
                return Ending(replace(runtime, drain_delay=0.0))
            return Ending(runtime, heirs=() if self._handed_over else None)  # the files are the supervisor's

        life.start_soon(serving.grants.follow)
        self._nothing_cut = await serve_until_drained(serving.house.stations, self._stopping, begin, task_status)
        life.cancel_scope.cancel()


class _Serving:
    """What a worker holds once it serves."""

    def __init__(self, file: str, house: House, first: _Prepared, telling: Telling) -> None:
        self.house = house
        self.configuration = first.configuration
        self.state = _state(first)
        self.grants = Grants(first.configuration, wall_clock, self._grants_ended)
        self.views = Views(
            file, house.stations, house.services, self, telling.writer, pressure=house.pressure, auditing=house.auditing
        )
        self._metrics = telling.metrics

    def take_up(self, prepared: _Prepared) -> None:
        """Go over to another configuration, in one turn of the loop."""
        new = prepared.configuration
        plan, runtime = plan_reload(self.configuration.settings, new.settings), new.settings.runtime
        self.house.stations.apply(plan, new, grace=idle_grace(runtime), within=runtime.drain_timeout)
        self.grants.replace(new)
        self.configuration, self.state = new, _state(prepared)

    def let_go(self) -> None:
        """Listen no more, anywhere: whoever starts the sidecar again needs the addresses. Who is in is served."""
        runtime = self.configuration.settings.runtime
        for station in self.house.stations:
            station.stop(grace=idle_grace(runtime), within=runtime.drain_timeout)

    def report(self, number: int) -> Report:
        """Say how we are."""
        return Report(number, self.views.status(), samples_of(self._metrics))

    def account(self, number: int) -> Account:
        """Say what has happened since the last time."""
        recorder = self.house.services.recorder
        return Account(number, tuple(recorder.flows.take()), *recorder.fresh.take(), self.views.lag, self.views.facts())

    def _grants_ended(self, _ended: list[tuple[str, Rule]]) -> None:
        self.house.stations.recheck()  # the supervisor tells of it


def _answer(order: Tell | Recount | WhoIsThere, serving: _Serving) -> Report | Account | Roster:
    match order:
        case Tell():
            return serving.report(order.id)
        case Recount():
            return serving.account(order.id)
        case WhoIsThere():
            return Roster(order.id, *serving.views.connections(order.most))


def _state(prepared: _Prepared) -> ReloadState:
    now = timestamp(wall_clock())
    return ReloadState(prepared.generation, hash_of(prepared.configuration), now, "", "")
