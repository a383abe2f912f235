"""The process around a sidecar: its log, its descriptors, its exit code."""

from __future__ import annotations

import contextlib
import math
import resource
import signal
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import FaultyInput, StartError
from meshproxy.runtime.cores import processes_for
from meshproxy.runtime.origin import Origin
from meshproxy.runtime.sandbox import enter, harden, no_core_dumps
from meshproxy.runtime.telling import Telling, wall_clock
from meshproxy.settings.load import FaultyConfiguration, load_and_keep
from meshproxy.settings.schema import Sandboxing
from meshproxy.telemetry.access import make_access_log
from meshproxy.telemetry.events import LogLevel, LogStyle, make_logger
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.writer import LogWriter
from meshproxy.wire.anonymous import anonymous_file

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from meshproxy.runtime.authority import AuthorityPlan
    from meshproxy.runtime.renewing import RenewalPlan
    from meshproxy.runtime.sandbox import Sandbox
    from meshproxy.runtime.worker import Place
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Settings
    from meshproxy.telemetry.events import Logger

_DESCRIPTORS_PER_CONNECTION = 2
_DESCRIPTORS_OF_OUR_OWN = 64

_COLOURED = "-in-colour"


@dataclass(frozen=True, slots=True)
class LogLook:
    """How the log looks: a readable form for a person, coloured if the terminal wants it, else JSON."""

    style: LogStyle
    colors: bool = False

    def __str__(self) -> str:
        """Return it in one word, for the command line of a worker."""
        return f"{self.style}{_COLOURED if self.colors else ''}"

    @classmethod
    def parse(cls, word: str) -> LogLook:
        """Read that word."""
        return cls(LogStyle(word.removesuffix(_COLOURED)), colors=word.endswith(_COLOURED))


def run(path: Path, look: LogLook, *, take_over: bool = False, on_serving: Callable[[], None] = lambda: None) -> bool:
    """Run the sidecar described by `path` in the foreground. Returns whether nothing was cut at the end.

    With `take_over` it asks the sidecar that runs for its listeners, and has it drain once this one serves; until then
    that one goes on as ever. `on_serving` is called when this one serves. Raises FaultyInput for files that are faulty,
    StartError when it cannot start for another reason; both before anything was logged or bound, or after all was
    closed again.
    """
    configuration = _loaded(path, strictly=take_over)
    # Its default is to kill: before there is something to reload, and again after the drain, in the last moments.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    descriptors = _raise_descriptor_limit()
    harden()
    workers = processes_for(configuration.settings.runtime.workers)
    turn = anonymous_file() if workers > 1 else None
    with contextlib.ExitStack() as stack:
        found = Origin.look(configuration.settings.admin, take_over=take_over, on_serving=on_serving)
        origin = stack.enter_context(contextlib.closing(found))
        # Before the first thread: each is held to what its starter was held to. And behind all that is looked for.
        origin = replace(origin, sandbox=enter(configuration, workers=workers))
        telling = stack.enter_context(_telling(look, turn))
        _tell_of_sandbox(telling.log, origin.sandbox, configuration.settings.runtime.sandbox)
        wanted = _descriptors_wanted(configuration.settings, workers)
        if descriptors < wanted:
            telling.log.warning(
                "few_descriptors",
                open_files_limit=descriptors,
                needed_for_max_connections=wanted,
                remedy="raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections",
            )
        with _bare(telling.log):
            if turn is not None:
                from meshproxy.runtime.life import Launch  # noqa: PLC0415 - as below
                from meshproxy.runtime.supervisor import run_supervisor  # noqa: PLC0415 - one process needs none

                launch = Launch(str(path), workers, str(look), turn, origin.shift)
                return trio.run(run_supervisor, launch, configuration, telling, origin)

            from meshproxy.runtime.build import run_sidecar  # noqa: PLC0415 - a supervisor has no data path

            return trio.run(run_sidecar, str(path), replace(configuration, contents={}), telling, origin)


def _tell_of_sandbox(log: Logger, sandbox: Sandbox, wanted: Sandboxing) -> None:
    if sandbox.kernel or wanted is Sandboxing.OFF:
        log.info("sandbox", held_by=str(sandbox))
    else:
        log.warning("no_sandbox", reason="this kernel has no Landlock, or it is turned off", effect="we go without")


def _loaded(path: Path, *, strictly: bool) -> Configuration:
    """Read all files; `strictly` as `check` does: what runs is not given up for what would wait for an identity."""
    try:
        configuration = load_and_keep(path)
    except FaultyConfiguration as faulty:
        from meshproxy.runtime.judge import identity_faults  # noqa: PLC0415 - a supervisor needs no TLS

        # All at once: faults of the identity would otherwise be told at the second try.
        raise FaultyInput([*faulty.problems, *identity_faults(faulty.identity)]) from None
    if strictly:
        from meshproxy.runtime.judge import judge  # noqa: PLC0415 - as above

        if problems := judge(path, wall_clock()).problems:
            raise FaultyInput(problems)
    return configuration


def serve_authority(plan: AuthorityPlan, look: LogLook) -> bool:
    """Serve the CA that `plan` tells of, in the foreground. Returns whether nobody was cut off at the end.

    Raises StartError when it cannot start, before anything was logged or after all was closed again.
    """
    from meshproxy.runtime.authority import run_authority  # noqa: PLC0415 - a sidecar has no CA

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as in run
    harden()
    _raise_descriptor_limit()
    with contextlib.closing(Origin.from_environment()) as origin, _telling(look, None) as telling, _bare(telling.log):
        return trio.run(run_authority, plan, telling, origin)


def renew_for_ever(renewal: RenewalPlan, look: LogLook) -> None:
    """Keep an identity alive, in the foreground, until a signal ends it."""
    from meshproxy.runtime.renewing import run_renewing  # noqa: PLC0415 - a sidecar does it otherwise

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as in run
    no_core_dumps()  # and no more: the command to run afterwards may be one that needs privileges
    with _telling(look, None) as telling, _bare(telling.log):
        trio.run(run_renewing, renewal, telling)


def run_worker(file: str, place: Place, control: socket.socket, look: LogLook, turn: int) -> bool:
    """Run one worker of the sidecar described by `file`, led through `control`. Returns whether nothing was cut.

    `turn` is what all of its processes lock when they write to the log.
    """
    from meshproxy.runtime.control import Channel, Order  # noqa: PLC0415 - as in run
    from meshproxy.runtime.worker import Worker  # noqa: PLC0415 - as in run

    async def serve() -> bool:
        return await Worker(file, place, Channel(control, Order), telling).run()

    with _telling(look, turn) as everywhere:
        telling = replace(everywhere, log=everywhere.log.bind(worker=place.number + 1))
        with _bare(telling.log):
            return trio.run(serve)


@contextlib.contextmanager
def _bare(log: Logger) -> Iterator[None]:
    """Raise what a person needs to read without the nurseries around it; log everything else."""
    try:
        yield
    except BaseExceptionGroup as group:
        for kind in (FaultyInput, StartError):
            matching = group.subgroup(kind)
            if matching is not None:
                raise _first(matching) from None
        log.exception("internal_error")
        raise


@contextlib.contextmanager
def _telling(look: LogLook, turn: int | None) -> Iterator[Telling]:
    writer, level = LogWriter(sys.stderr.fileno(), turn=turn), LogLevel()
    try:
        yield Telling(
            log=make_logger(writer, look.style, colors=look.colors, level=level),
            access=make_access_log(writer, look.style),
            writer=writer,
            metrics=Metrics(),
            log_level=level,
        )
    finally:
        writer.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _descriptors_wanted(settings: Settings, workers: int) -> int:
    """Return what each process needs, all listeners full and the connections shared evenly."""
    connections = sum(each.limits.max_connections for each in settings.listeners)
    return math.ceil(connections / workers) * _DESCRIPTORS_PER_CONNECTION + _DESCRIPTORS_OF_OUR_OWN


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; the default of 1024 is 500 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
