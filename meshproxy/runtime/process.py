"""The process around a sidecar: its log, its descriptors, its exit code."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import FaultyInput, StartError
from meshproxy.runtime.build import Telling, run_sidecar
from meshproxy.runtime.judge import identity_faults
from meshproxy.settings.load import FaultyConfiguration, load_configuration
from meshproxy.telemetry.access import make_access_log
from meshproxy.telemetry.events import LogStyle, make_logger
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meshproxy.settings.schema import Settings

_DESCRIPTORS_PER_CONNECTION = 2
_DESCRIPTORS_OF_OUR_OWN = 64


@dataclass(frozen=True, slots=True)
class LogLook:
    """How the log looks: a readable form for a person, coloured if the terminal wants it, else JSON."""

    style: LogStyle
    colors: bool = False


def run(path: Path, look: LogLook) -> bool:
    """Run the sidecar described by `path` in the foreground. Returns whether nothing was cut at the end.

    Raises FaultyInput for files that are faulty, StartError when it cannot start for another reason; both before
    anything was logged or bound, or after all was closed again.
    """
    try:
        configuration = load_configuration(path)
    except FaultyConfiguration as faulty:
        # All at once: faults of the identity would otherwise be told at the second try.
        raise FaultyInput([*faulty.problems, *identity_faults(faulty.identity)]) from None
    # Its default is to kill: before there is something to reload, and again after the drain, in the last moments.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    descriptors = _raise_descriptor_limit()
    with _telling(look) as telling:
        wanted = _descriptors_wanted(configuration.settings)
        if descriptors < wanted:
            telling.log.warning(
                "few_descriptors",
                open_files_limit=descriptors,
                needed_for_max_connections=wanted,
                remedy="raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections",
            )
        try:
            return trio.run(run_sidecar, str(path), configuration, telling)
        except BaseExceptionGroup as group:
            # Nurseries wrap what a person needs to read.
            for kind in (FaultyInput, StartError):
                matching = group.subgroup(kind)
                if matching is not None:
                    raise _first(matching) from None
            telling.log.exception("internal_error")
            raise


@contextlib.contextmanager
def _telling(look: LogLook) -> Iterator[Telling]:
    writer = LogWriter(sys.stderr.fileno())
    try:
        yield Telling(
            log=make_logger(writer, look.style, colors=look.colors),
            access=make_access_log(writer, look.style),
            writer=writer,
            metrics=Metrics(),
        )
    finally:
        writer.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _descriptors_wanted(settings: Settings) -> int:
    return (
        sum(each.limits.max_connections for each in settings.listeners) * _DESCRIPTORS_PER_CONNECTION
        + _DESCRIPTORS_OF_OUR_OWN
    )


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; the default of 1024 is 500 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
