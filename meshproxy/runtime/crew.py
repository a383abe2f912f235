"""The workers of one sidecar, led as one: started again when they end, changed all together or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshproxy import __version__
from meshproxy.errors import FaultyInput, Problem, StartError
from meshproxy.limits.backoff import Backoff
from meshproxy.runtime.census import Census
from meshproxy.runtime.control import Abort, Answer, Cut, Drain, File, LookAtIdentity, SetLogLevel
from meshproxy.runtime.life import Life, Lost, in_words
from meshproxy.runtime.member import Member, State

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from meshproxy.runtime.doorkeeper import Doorkeeper, Kept
    from meshproxy.runtime.life import Reply
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.plan import Key, Plan
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics

_BOOT = 30.0  # seconds for a new process to say that it is there
_PATIENCE = 30.0  # seconds to take up a configuration: reading 10,000 rules takes 0.3
_TRIES = 3  # starts of one worker, while none has ever served, before the sidecar gives up


@dataclass(frozen=True, slots=True)
class _InForce:
    configuration: Configuration
    generation: int


class Crew:
    """All workers, and what is in force for each of them."""

    def __init__(
        self,
        configuration: Configuration,
        doors: Doorkeeper,
        size: int,
        begin: Callable[[int], Life],
        *,
        log: Logger,
        metrics: Metrics,
    ) -> None:
        self.members = [Member(number) for number in range(size)]
        self.census = Census(self.members)
        self.nothing_cut = True
        self._in_force = _InForce(configuration, 1)
        self._doors = doors
        self._begin = begin
        self._log = log
        self._metrics = metrics
        self._changing = trio.Lock()
        self._ending = trio.Event()
        self._has_served = trio.Event()

    def __repr__(self) -> str:
        return f"<Crew {[str(member.state) for member in self.members]}>"

    @property
    def has_served(self) -> bool:
        """Whether any worker has ever served."""
        return self._has_served.is_set()

    async def run(self) -> None:
        """Keep all places filled until `drain` or `cut`, and stay until the last has ended.

        Raises FaultyInput or StartError when none can ever serve.
        """
        async with trio.open_nursery() as nursery:
            for member in self.members:
                nursery.start_soon(self._fill, member)

    async def started(self) -> None:
        """Wait until every place was filled once, or has failed to be, and somebody serves."""
        for member in self.members:
            await member.settled.wait()
        await self._has_served.wait()

    def drain(self, heirs: Container[Key] | None = None) -> None:
        """Fill no place any more; who serves drains, and who does not yet ends. Idempotent.

        `heirs` are the listeners that another process has by now, where one has taken over.
        """
        if self._ending.is_set():
            return
        self._ending.set()
        self._doors.close_all(handed_over=heirs or ())
        for member in self.members:
            if member.life is None:
                continue
            if member.state is State.SERVING:
                member.state = State.DRAINING
                member.life.say(Drain(handed_over=heirs is not None))
            else:
                member.life.kill()

    def cut(self) -> None:
        """End all now."""
        self.drain()
        for life in self._lives():
            life.say(Cut())

    def kill(self) -> None:
        """End those that cannot be told."""
        for life in self._lives():
            life.kill()

    def look_at_identity(self) -> None:
        """Have everyone load the identity again now."""
        for life in self._lives():
            life.say(LookAtIdentity())

    async def watch_over(self, within: float | None) -> None:
        """End who serves and says nothing for so many seconds: its loop is stuck, and a new one is not. Forever.

        None: the service manager does not want to know whether we live.
        """
        if within is None:
            return
        heard: dict[Life, float] = {}
        while True:
            told = {member.number for member, _ in await self.census.reports()}
            now = trio.current_time()
            lives = [(each.number, each.life) for each in self.members if each.state is State.SERVING and each.life]
            heard = {life: now if number in told else heard.get(life, now) for number, life in lives}
            for life, at in heard.items():
                if now - at >= within:
                    self._log.error("worker_silent", pid=life.pid, seconds=round(now - at, 1), effect="it is ended")
                    life.kill()
            await trio.sleep(within / 4)

    def log_from(self, level: str) -> None:
        """Have everyone log from this level on."""
        for life in self._lives():
            life.say(SetLogLevel(level))

    def recheck(self) -> int:
        """Leave it to the workers: each follows the ends of its grants by itself."""
        return 0

    async def take_up(self, plan: Plan, configuration: Configuration, generation: int) -> bool:
        """Have all go over to a configuration, or none; see `reload.House`.

        Who cannot be reached does not decide: it is ended, and started again with what is in force then.
        """
        async with self._changing:
            change = self._doors.prepare(plan, configuration.settings)
            crew = [(each, each.life) for each in self.members if each.life and each.state is State.SERVING]
            problems: list[Problem] = []
            try:
                replies = [_prepare(life, configuration, generation, change.new, self._doors) for _, life in crew]
                for (_, life), reply in zip(crew, replies, strict=True):
                    problems += await self._problems(life, reply)
            except BaseException as error:
                self._doors.undo(change)
                if isinstance(error, OSError):
                    raise StartError(f"cannot hand over the listening sockets: {error.strerror}") from error
                raise
            if problems or self._ending.is_set():
                self._doors.undo(change)
                for _, life in crew:
                    life.say(Abort())
                if problems:
                    raise FaultyInput(problems)
                return False
            # It is decided: whoever is started from now on gets it, and nobody is told to drain in between.
            self._in_force = _InForce(configuration, generation)
            self._doors.take(change)
            done = [life.commit() for _, life in crew]
            for (member, life), reply in zip(crew, done, strict=True):
                await self._problems(life, reply)
                member.generation = generation
            self._doors.settle(change)
            return True

    async def _fill(self, member: Member) -> None:
        backoff = Backoff(first=0.1, most=5.0, forgiven=30.0)
        while True:
            began = trio.current_time()
            how = await self._live(member)
            self._doors.vacate(member.number)
            self.census.let_go(member)
            member.settled.set()
            if self._ending.is_set():
                member.state = State.ENDED
                return
            lived = trio.current_time() - began
            pause = backoff.after(lived)
            self._log.error("worker_exited", worker=member.number + 1, how=how, lived=round(lived, 1), restart_in=pause)
            if not self.has_served:
                self._give_up(member, how)
            member.state = State.WAITING
            with trio.move_on_after(pause):
                await self._ending.wait()
                member.state = State.ENDED
                return
            member.state = State.STARTING
            member.restarts += 1
            self._metrics.worker_restarts.inc()

    def _give_up(self, member: Member, how: str) -> None:
        if member.problems:
            raise FaultyInput(member.problems)
        if member.restarts + 1 >= _TRIES:
            raise StartError(f"no worker could be started: the last ended with {how}; what it said is above")

    async def _live(self, member: Member) -> str:
        """Fill the place once; returns how that ended, in words."""
        member.problems, member.generation = (), 0
        try:
            life = member.life = self._begin(member.number)
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._introduce, member, life)
            try:
                code = await life.run()
            finally:
                nursery.cancel_scope.cancel()
        if self._ending.is_set():
            self.nothing_cut &= life.nothing_cut or not member.generation
            if code < 0:
                self._log.error("worker_exited", worker=member.number + 1, how=in_words(code), during="drain")
        return in_words(code)

    async def _introduce(self, member: Member, life: Life) -> None:
        """Hand over what is in force, so that it serves; end it if that cannot be."""
        with trio.move_on_after(_BOOT):
            await life.there.wait()
        async with self._changing:
            if not life.there.is_set() or self._ending.is_set():
                life.kill()
                return
            now = self._in_force
            member.problems = await self._hand_over(life, now)
            if member.problems:
                told = "; ".join(map(str, member.problems))
                self._log.error("worker_refused", worker=member.number + 1, error=told)
                life.kill()
                return
            if isinstance(await life.commit().get(_PATIENCE), Answer):
                self._serves(member, now.generation)
            else:
                life.kill()

    async def _hand_over(self, life: Life, now: _InForce) -> Sequence[Problem]:
        """Give a new worker all it needs; returns what is wrong with that."""
        if life.version != __version__:
            return (_another_version(life.version),)
        try:
            reply = _prepare(life, now.configuration, now.generation, self._doors.kept, self._doors)
        except OSError as error:
            return (_no_room(error),)
        return await self._problems(life, reply)

    def _serves(self, member: Member, generation: int) -> None:
        member.generation = generation
        member.settled.set()
        self._has_served.set()
        if self._ending.is_set() and member.life is not None:
            member.state = State.DRAINING
            member.life.say(Drain())
        else:
            member.state = State.SERVING

    async def _problems(self, life: Life, reply: Reply) -> Sequence[Problem]:
        """Return what a worker finds wrong; one that hangs is ended: it does not judge by what is in force."""
        word = await reply.get(_PATIENCE)
        if word is Lost.SILENT:
            self._log.error("worker_silent", pid=life.pid, seconds=_PATIENCE, effect="it is ended")
            life.kill()
        return word.problems if isinstance(word, Answer) else ()

    def _lives(self) -> list[Life]:
        return [member.life for member in self.members if member.life is not None]


def _another_version(version: str) -> Problem:
    return Problem(
        "meshproxy", f"version {version} installed by now", f"{__version__}, which runs", "restart the sidecar"
    )


def _no_room(error: OSError) -> Problem:
    found = f"no room to hand over the listening sockets ({error.strerror})"
    return Problem(
        "meshproxy", found, "descriptors to spare", "raise the limit of open files (ulimit -n, LimitNOFILE=)"
    )


def _prepare(
    life: Life, configuration: Configuration, generation: int, kept: Mapping[Key, Kept], doors: Doorkeeper
) -> Reply:
    for path, content in configuration.contents.items():
        life.say(File(os.fsencode(path), content))
    keys = tuple(kept)
    return life.prepare(generation, keys, doors.descriptors(keys, kept))
