"""Settings and allow-lists, followed while running: one transaction over all files, or the last good stays.

Triggered by the files themselves (a change that is stable over two looks), by SIGHUP and by `POST /reload`. Reading and
judging happen in a thread; the house then changes as a whole, so every decision is made on one generation. A failed
reload is tried again now and then: what was wrong need not be in a file that is watched (an address in use, the mode of
a directory).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy.errors import FaultyInput, Problem, StartError
from meshproxy.policy.cut import has_lost_conditions, looks_cut_short
from meshproxy.runtime.grants import Grants, log_forewarning
from meshproxy.runtime.sandbox import Sandbox
from meshproxy.settings import schema
from meshproxy.settings.load import Configuration, FaultyConfiguration, load_configuration
from meshproxy.settings.plan import Plan, newly_unchecked, plan_reload
from meshproxy.telemetry.access import timestamp
from meshproxy.watching import Signature, signature_of
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from meshproxy.policy.document import Rule
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.wire.relay import Wall

_LOOK_EVERY = 1.0

# How long a file that may still be being written is waited for (seconds); a person who means it sends SIGHUP.
_HOLD = 10.0

# How soon a failed reload is tried again though no file has changed (seconds).
_RETRY = 10.0


class Result(StrEnum):
    """What became of one attempt; the `result` label of `meshproxy_reloads_total`."""

    LOADED = "loaded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    HELD = "held"
    DRAINING = "draining"  # nothing is changed any more


@dataclass(frozen=True, slots=True)
class _Held:
    """What is waited for, and how long (seconds; `inf`: until a person asks)."""

    where: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ReloadState:
    """What `/status` tells about reloading. Times are empty while there was none."""

    generation: int
    hash: str
    loaded_at: str
    last_attempt_at: str
    last_error: str


class House(Protocol):
    """What is changed by a reload."""

    async def take_up(self, plan: Plan, configuration: Configuration, generation: int) -> bool:
        """Go over to a configuration as a whole.

        Returns False, with nothing changed, when a drain has begun meanwhile. Raises FaultyInput or StartError before
        anything has changed.
        """

    def recheck(self) -> int:
        """Ask about every live stream again; returns how many were cut."""


class Load(Protocol):
    """Reads and judges all files; see `load_configuration`."""

    def __call__(self, path: Path, *, generation: int, known: Mapping[Path, bytes]) -> Configuration:
        """Block until done; raises FaultyInput."""


Around = Callable[[], AbstractContextManager[None]]


class Reloader:
    """Follows the files of one sidecar."""

    def __init__(
        self,
        path: Path,
        configuration: Configuration,
        house: House,
        *,
        wall: Wall,
        log: Logger,
        metrics: Metrics,
        load: Load = load_configuration,
        around: Around = nullcontext,
        sandbox: Sandbox | None = None,
    ) -> None:
        """`around` is entered for each reload that somebody asked for, in whatever way it ends."""
        self._path = path
        self._configuration = configuration
        self._house = house
        self._load = load
        self._around = around
        self._sandbox = sandbox or Sandbox()
        self._wall = wall
        self._log = log
        self._metrics = metrics
        self._one_at_a_time = trio.Lock()
        self._watched: tuple[Path, ...] = configuration.files
        self._seen: Signature = ()
        self._tried: Signature = ()
        self._held = ""  # the hash of what may still be being written
        self._held_until: float | None = None
        self._retry_at = math.inf
        self._asked = trio.Event()
        self._draining = False
        self.grants = Grants(configuration, wall, self._grants_ended, log_forewarning(log))
        metrics.configuration_generation.set(1)
        self._state = ReloadState(1, hash_of(configuration), timestamp(wall()), "", "")

    def __repr__(self) -> str:
        return f"<Reloader {self.state!r}>"

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        return self._configuration

    @property
    def state(self) -> ReloadState:
        """How often and when it was changed, and what became of the last attempt."""
        return self._state

    def stop(self) -> None:
        """Change nothing any more: the drain has begun."""
        self._draining = True

    def look_now(self) -> None:
        """Ask the watch to reload now, as a person who means it; who asks again before it does asks once."""
        self._asked.set()

    async def watch(self) -> None:
        """Follow the files until cancelled.

        Nothing counts as tried at first: what changed between the start's own reading and now must not be missed.
        """
        while True:
            with trio.move_on_after(_LOOK_EVERY):
                await self._asked.wait()
            if self._asked.is_set():
                self._asked = trio.Event()
                await self.reload(patient=False)
                continue
            before, self._seen = (
                self._seen,
                await in_thread(signature_of, self._watched, abandon_on_cancel=True),
            )
            now = trio.current_time()
            held_enough = self._held_until is not None and now >= self._held_until
            due = self._seen != self._tried or held_enough or now >= self._retry_at
            if self._seen == before and due:
                await self.reload(patient=not held_enough)

    async def reload(self, *, patient: bool) -> Result:
        """Load everything anew and swap it in, or keep what is in force.

        A `patient` reload waits for a file that may still be being written; one that a person asked for does not.
        """
        if patient:
            return await self._reload(patient=True)
        with self._around():
            return await self._reload(patient=False)

    async def _reload(self, *, patient: bool) -> Result:
        async with self._one_at_a_time:
            if self._draining:
                return Result.DRAINING
            # Looked at before it is read: what changes meanwhile differs from what was tried.
            self._tried = await in_thread(signature_of, self._watched, abandon_on_cancel=True)
            try:
                result = await self._attempt(patient=patient)
            except FaultyConfiguration as faulty:
                self._watch(faulty.files)
                shut = await in_thread(self._sandbox.unreadable, faulty.files, abandon_on_cancel=True)
                more = [_sandbox_problem(self._path, what) for what in shut]
                result = self._failed([*faulty.problems, *more], patient=patient)
            except FaultyInput as faulty:
                result = self._failed(faulty.problems, patient=patient)
            except StartError as error:
                found = Problem(str(self._path), str(error), "an address that is free", "free it, or change the file")
                result = self._failed([found], patient=patient)
            except Exception as error:  # noqa: BLE001 - a bug in loading must not end what runs on the last good
                self._log.exception("internal_error", during="reload")
                found = Problem(str(self._path), f"an internal error ({type(error).__name__})", "a reload", "report it")
                result = self._failed([found], patient=patient)
            self._metrics.reloads.labels(result).inc()
            return result

    async def _attempt(self, *, patient: bool) -> Result:
        generation = self.state.generation + 1
        load = partial(self._load, self._path, generation=generation, known=self._configuration.known)
        new = await in_thread(load, abandon_on_cancel=True)
        beyond = await in_thread(self._sandbox.beyond, new, abandon_on_cancel=True)
        if self._draining:  # it began while the files were read
            return Result.DRAINING
        self._watch(new.files)
        return await self._swap(new, generation, beyond, patient=patient)

    def _watch(self, files: Sequence[Path]) -> None:
        """Watch also what a failed attempt would have read: the file that is missing is the one that will come."""
        watched = tuple(dict.fromkeys((*self._configuration.files, *files)))
        if watched != self._watched:
            self._watched, self._tried = watched, ()

    async def _swap(self, new: Configuration, generation: int, beyond: Sequence[str], *, patient: bool) -> Result:
        old = self._configuration
        plan = plan_reload(old.settings, new.settings)
        if plan.needs_restart:
            return self._failed([_restart_problem(self._path, what) for what in plan.needs_restart], patient=patient)
        if beyond:
            return self._failed([_sandbox_problem(self._path, what) for what in beyond], patient=patient)
        new_hash = hash_of(new)
        if new_hash == self.state.hash:
            if self.state.last_error:
                self._log.info("reload_healed", generation=self.state.generation, hash=new_hash)
            self._settled("")
            return Result.UNCHANGED
        if patient and (held := self._to_be_held(old, new)):
            return self._hold(held, new_hash)
        if not await self._house.take_up(plan, new, generation):
            return Result.DRAINING
        self._configuration = new
        self.grants.replace(new)
        self._settled("", generation=generation, new_hash=new_hash)
        self._metrics.configuration_generation.set(self.state.generation)
        self._log.info("reloaded", generation=self.state.generation, hash=new_hash, changes=_in_words(plan))
        return Result.LOADED

    def _to_be_held(self, old: Configuration, new: Configuration) -> _Held | None:
        """Where something that narrows may be missing: not yet written, or (once known to be there) lost."""
        for inbound in new.settings.inbound:
            policy = new.policies[inbound.name]
            before = old.policies.get(inbound.name)
            rule = looks_cut_short(before, policy, http=inbound.protocol is schema.Protocol.HTTP)
            if rule is not None:
                lost = has_lost_conditions(before, rule)
                return _Held(f"{policy.file}:{rule.line}", math.inf if lost else _HOLD)
        outbound = newly_unchecked(old.settings, new.settings)
        return None if outbound is None else _Held(f'{self._path}: allow_uids of outbound "{outbound.name}"', math.inf)

    def _hold(self, held: _Held, new_hash: str) -> Result:
        if self._held_until is None or self._held != new_hash:
            self._held = new_hash
            self._held_until = trio.current_time() + held.seconds
            waits = held.seconds < math.inf
            self._log.warning(
                "reload_held",
                rule=held.where,
                reason="it grants more than before; so does a file that is cut off, or still being written",
                seconds=held.seconds if waits else "until asked",
                remedy=("wait, or " if waits else "") + "send SIGHUP if it is meant so",
            )
        return Result.HELD

    def _failed(self, problems: Sequence[Problem], *, patient: bool) -> Result:
        """Keep what is in force; told once, and to whoever asks in person."""
        error = "; ".join(map(str, problems))
        if error != self.state.last_error or not patient:
            self._log.error(
                "reload_failed",
                error=error,
                problems=len(problems),
                remedy=problems[0].remedy,
                kept_generation=self.state.generation,
            )
        self._settled(error)
        return Result.FAILED

    def _settled(self, error: str, *, generation: int | None = None, new_hash: str = "") -> None:
        now, before = timestamp(self._wall()), self.state
        self._held_until = None
        self._retry_at = trio.current_time() + _RETRY if error else math.inf
        self._metrics.reload_failing.set(bool(error))
        if generation is None:
            self._state = ReloadState(before.generation, before.hash, before.loaded_at, now, error)
        else:
            self._state = ReloadState(generation, new_hash, now, now, error)

    def _grants_ended(self, ended: Sequence[tuple[str, Rule]]) -> None:
        for file, rule in ended:
            self._log.warning("grant_expired", rule=rule.name, policy=f"{file}:{rule.line}", expired=str(rule.expires))
        self._house.recheck()


def hash_of(configuration: Configuration) -> str:
    """What is in force, in twelve hexadecimal digits: the settings and every allow-list."""
    digest = hashlib.sha256(repr(configuration.settings).encode())
    for name, policy in sorted(configuration.policies.items()):
        digest.update(f"{name}\0{policy.content_hash}\0".encode())
    return digest.hexdigest()[:12]


def _restart_problem(path: Path, what: str) -> Problem:
    return Problem(
        str(path),
        f"another [{what}]",
        "the one this sidecar was started with",
        "restart the sidecar to change it, or put it back: until then nothing else of the file is taken up either",
        where=what,
    )


def _sandbox_problem(path: Path, what: str) -> Problem:
    return Problem(
        str(path),
        f"what the sandbox of this process does not allow: {what}",
        "what was in the file when it was started",
        f'restart required: `meshproxy run --take-over {path}` refuses nobody meanwhile; sandbox = "off" in [runtime]'
        " does without",
    )


def _in_words(plan: Plan) -> dict[str, str]:
    return {f"{direction} {name}": step.name.lower() for (direction, name), step in plan.steps.items()}
